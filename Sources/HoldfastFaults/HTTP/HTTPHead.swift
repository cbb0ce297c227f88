import NIOCore

/// What must be known of the head of a request or a response to find the end of the message, and upgrades.
struct HTTPHead: Equatable {
    /// Of a request.
    var method = ""
    var target = ""
    /// Of a response.
    var status = 0

    var contentLength: Int?
    var isChunked = false
    var wantsUpgrade = false
    var expectsContinue = false

    /// 100 to 199, but not the one that ends HTTP: another response follows for the same request.
    var isInterim: Bool { (100..<200).contains(self.status) && self.status != 101 }

    /// - Parameter text: the head with its empty line.
    /// - Returns: `nil` if that is no HTTP/1 (RFC 9112).
    init?(_ text: ByteBuffer, role: HTTPFramer.Role) {
        var lines = text.readableBytesView.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)[...]
            .map { $0.last == UInt8(ascii: "\r") ? $0.dropLast() : $0 }
            .drop { $0.isEmpty }
        guard let first = lines.popFirst(), self.readStart(String(decoding: first, as: UTF8.self), role) else {
            return nil
        }
        var connection = ""
        var hasUpgrade = false
        for line in lines where !line.isEmpty {
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return nil }
            let value = String(decoding: line[line.index(after: colon)...], as: UTF8.self)
                .trimmingPrefix { $0 == " " || $0 == "\t" }
            let word = value.lowercased()
            switch String(decoding: line[..<colon], as: UTF8.self).lowercased() {
            case "content-length":
                guard let length = Int(word.filter { $0 != " " }), length >= 0 else { return nil }
                guard self.contentLength == nil || self.contentLength == length else { return nil }
                self.contentLength = length
            case "transfer-encoding": self.isChunked = word.contains("chunked")
            case "connection": connection += "," + word
            case "upgrade": hasUpgrade = true
            case "expect": self.expectsContinue = word.contains("100-continue")
            default: break
            }
        }
        let tokens = connection.split { $0 == "," || $0 == " " || $0 == "\t" }
        self.wantsUpgrade = hasUpgrade && tokens.contains("upgrade") && role == .requests
    }

    private mutating func readStart(_ line: String, _ role: HTTPFramer.Role) -> Bool {
        let words = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        switch role {
        case .requests:
            guard words.count == 3, words[2].hasPrefix("HTTP/1."), !words[0].isEmpty else { return false }
            self.method = String(words[0])
            self.target = String(words[1])
        case .responses:
            guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]),
                (100...999).contains(status)
            else { return false }
            self.status = status
        }
        return true
    }
}
