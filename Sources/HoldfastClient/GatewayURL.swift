import NIOCore

/// Where a gateway is, as far as a WebSocket needs to know: `ws`, `wss`, `http` or `https`, host, port and path.
public struct GatewayURL: Sendable, Equatable, CustomStringConvertible {
    public let isSecure: Bool
    /// Without the brackets of an IPv6 address.
    public let host: String
    public let port: Int
    /// With the query, if there is one.
    public let target: String

    /// Where a gateway takes WebSockets, for URLs that name none.
    public static let defaultPath = "/socket"

    /// Why a text is no address of a gateway.
    public struct Invalid: Error, Equatable, CustomStringConvertible {
        public let url: String
        public let reason: String

        public var description: String {
            "\(self.url) is no address of a gateway: \(self.reason). It looks like http://127.0.0.1:8080 or wss://events.example.com/socket."
        }
    }

    /// Reads a URL.
    /// - Throws: ``Invalid``.
    public init(_ text: String) throws(Invalid) {
        func invalid(_ reason: String) -> Invalid { Invalid(url: Self.withoutSecrets(text), reason: reason) }
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw invalid("it holds a space or a character that must be percent-encoded")
        }
        guard let separator = text.firstRange(of: "://") else { throw invalid("the scheme is missing") }
        switch text[..<separator.lowerBound].lowercased() {
        case "ws", "http": self.isSecure = false
        case "wss", "https": self.isSecure = true
        case let scheme: throw invalid("\(scheme) is none of http, https, ws and wss")
        }
        let rest = text[separator.upperBound...]
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        guard !rest.contains("#") else { throw invalid("a WebSocket's address has no fragment (RFC 6455 §3)") }
        guard !authority.contains("@") else { throw invalid("credentials do not belong into it") }
        let (host, port) = Self.split(authority)
        guard let host, !host.isEmpty else { throw invalid("the host is missing") }
        self.host = String(host)
        if let port {
            guard let number = Int(port), (1...65535).contains(number) else {
                throw invalid("the port must be 1 to 65535")
            }
            self.port = number
        } else {
            self.port = self.isSecure ? 443 : 80
        }
        let target = rest[authority.endIndex...]
        let path = target.prefix { $0 != "?" }
        self.target = (path.isEmpty || path == "/" ? Self.defaultPath : String(path)) + target[path.endIndex...]
    }

    /// What may be printed of an address that may hold a password, and whose query may hold a token.
    private static func withoutSecrets(_ text: String) -> String {
        let start = text.firstRange(of: "://")?.upperBound ?? text.startIndex
        let at = text[start...].lastIndex(of: "@").map { text.index(after: $0) } ?? start
        return text[..<start] + (at == start ? "" : "…@") + text[at...].prefix { $0 != "?" }
    }

    /// - Returns: no host where the brackets of an IPv6 address do not match.
    private static func split(_ authority: Substring) -> (host: Substring?, port: Substring?) {
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { return (nil, nil) }
            let behind = authority[authority.index(after: end)...]
            guard behind.isEmpty || behind.hasPrefix(":") else { return (nil, nil) }
            return (
                authority[authority.index(after: authority.startIndex)..<end], behind.isEmpty ? nil : behind.dropFirst()
            )
        }
        guard let colon = authority.firstIndex(of: ":") else { return (authority, nil) }
        return (authority[..<colon], authority[authority.index(after: colon)...])
    }

    /// URL of another endpoint of the same gateway, which stand beside that for WebSockets.
    func http(_ endpoint: String) -> String {
        var base = self.target.prefix { $0 != "?" }
        if base.hasSuffix("/socket") { base = base.dropLast("/socket".count) }
        if base.hasSuffix("/") { base = base.dropLast() }
        return "\(self.isSecure ? "https" : "http")://\(self.hostHeader)\(base)\(endpoint)"
    }

    /// The value of the `Host` header.
    var hostHeader: String {
        self.port == (self.isSecure ? 443 : 80) ? self.bracketedHost : self.authority
    }

    /// Host and port, as CONNECT names them.
    var authority: String { "\(self.bracketedHost):\(self.port)" }

    private var bracketedHost: String { self.host.contains(":") ? "[\(self.host)]" : self.host }

    public var description: String { "\(self.isSecure ? "wss" : "ws")://\(self.hostHeader)\(self.target)" }
}
