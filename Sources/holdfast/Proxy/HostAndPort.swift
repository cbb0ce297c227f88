import ArgumentParser

/// `127.0.0.1:8080`, `[::1]:8080`, `gateway.internal:8080`.
struct HostAndPort: CustomStringConvertible, Sendable {
    var host: String
    var port: Int

    init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// - Throws: a `ValidationError` that says what the form is.
    init(option text: String) throws {
        let colon = text.lastIndex(of: ":")
        var host = text[..<(colon ?? text.endIndex)]
        let isBracketed = host.hasPrefix("[") && host.hasSuffix("]")
        if isBracketed { host = host.dropFirst().dropLast() }
        guard let colon, let port = UInt16(text[text.index(after: colon)...]), !host.isEmpty, !host.contains("/"),
            isBracketed || !host.contains(":")
        else {
            throw ValidationError("it has the form HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080; it is \"\(text)\".")
        }
        self.init(host: String(host), port: Int(port))
    }

    func with(port: Int) -> HostAndPort {
        HostAndPort(host: self.host, port: port)
    }

    var description: String {
        self.host.contains(":") ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
    }
}
