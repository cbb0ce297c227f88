import NIOCore

/// A response that the proxy gives itself.
enum HTTPAnswer {
    /// With a text that says where it comes from, and the connection kept. 204, 205 and 304 have none (RFC 9110).
    static func bytes(status: Int) -> ByteBuffer {
        let hasBody = ![204, 205, 304].contains(status)
        let text = hasBody ? "\(status) \(self.reason(status)), says the fault proxy\n" : ""
        var head = "HTTP/1.1 \(status) \(self.reason(status))\r\n"
        if hasBody { head += "Content-Type: text/plain\r\n" }
        if status != 204 && status != 304 { head += "Content-Length: \(text.utf8.count)\r\n" }
        return ByteBuffer(string: head + "\r\n" + text)
    }

    private static func reason(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 407: "Proxy Authentication Required"
        case 426: "Upgrade Required"
        case 429: "Too Many Requests"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 502: "Bad Gateway"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        default: "Status \(status)"
        }
    }
}
