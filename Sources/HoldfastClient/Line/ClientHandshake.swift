import HoldfastCore
import HoldfastProtocol
import NIOCore

/// Why a line did not become a WebSocket.
struct HandshakeError: Error, Equatable {
    /// For people.
    let reason: String
    let retryAfter: RetryAfter?

    init(_ reason: String, retryAfter: RetryAfter? = nil) {
        self.reason = reason
        self.retryAfter = retryAfter
    }
}

/// The client's part of the opening handshake (RFC 6455 §4.1), sans-IO. Neither extensions nor subprotocols are asked for.
struct ClientHandshake {
    private let key: String
    let request: ByteBuffer

    init(_ url: GatewayURL, using random: inout some RandomNumberGenerator) {
        self.key = WebSocketHandshake.key(high: random.next(), low: random.next())
        self.request = ByteBuffer(
            string: """
                GET \(url.target) HTTP/1.1\r
                Host: \(url.hostHeader)\r
                Upgrade: websocket\r
                Connection: Upgrade\r
                Sec-WebSocket-Key: \(self.key)\r
                Sec-WebSocket-Version: 13\r
                User-Agent: holdfast-swift\r
                \r

                """
        )
    }

    /// - Throws: unless the answer makes the line a WebSocket.
    func check(_ response: HandshakeResponse) throws(HandshakeError) {
        guard response.status == 101 else {
            let place = response["location"].map { " (to \($0))" } ?? ""
            let seconds = response["retry-after"].flatMap(UInt32.init)
            throw HandshakeError(
                "the server answered \(response.status) \(response.phrase)\(place)",
                retryAfter: seconds.map { .seconds(Double($0)) }
            )
        }
        guard response["upgrade"]?.lowercased() == "websocket", response.lists("connection", "upgrade") else {
            throw HandshakeError("the server answered 101 without Upgrade: websocket")
        }
        guard response["sec-websocket-accept"] == WebSocketHandshake.accept(key: self.key) else {
            throw HandshakeError("the server's Sec-WebSocket-Accept is not that of our key")
        }
        guard response["sec-websocket-extensions"] == nil, response["sec-websocket-protocol"] == nil else {
            throw HandshakeError("the server uses an extension or a subprotocol that was not asked for")
        }
    }
}

/// Status line and headers of an HTTP response.
struct HandshakeResponse: Equatable {
    let status: Int
    let phrase: String
    /// Names in lower case.
    fileprivate(set) var headers: [String: [String]] = [:]

    /// The value of a header that stands there once.
    subscript(_ name: String) -> String? {
        guard let values = self.headers[name], values.count == 1 else { return nil }
        return values[0]
    }

    /// Whether a header's comma-separated list has the word, in any case.
    func lists(_ name: String, _ word: String) -> Bool {
        (self.headers[name] ?? []).contains { value in
            value.split(separator: ",").contains { $0.trimmed.lowercased() == word }
        }
    }
}

/// Reads the head of the response, sans-IO: feed bytes with ``append(_:)``, ask ``next()`` until it answers.
///
/// Not NIOHTTP1's decoder: it would have to be taken out of the pipeline again without losing what is behind the head,
/// and this is all of HTTP that is needed.
struct HandshakeResponseParser {
    /// Most bytes of the head.
    static let limit = 16 * 1024

    /// What has come and is not yet read; after the head, that which belongs to the WebSocket.
    private(set) var rest = ByteBuffer()
    private var headBytes = 0
    private var response: HandshakeResponse?

    mutating func append(_ bytes: ByteBuffer) {
        self.rest.writeImmutableBuffer(bytes)
    }

    /// - Returns: `nil` if more bytes are needed.
    mutating func next() throws(HandshakeError) -> HandshakeResponse? {
        while let line = try self.readLine() {
            guard var response = self.response else {
                self.response = try Self.statusLine(line)
                continue
            }
            guard line.isEmpty else {
                let (name, value) = try Self.header(line)
                response.headers[name, default: []].append(value)
                self.response = response
                continue
            }
            self.response = nil
            // An interim answer, such as 103, is followed by the final one (RFC 9110 §15.2).
            guard response.status >= 200 || response.status == 101 else { continue }
            return response
        }
        return nil
    }

    private mutating func readLine() throws(HandshakeError) -> Substring? {
        guard let end = self.rest.readableBytesView.firstIndex(of: UInt8(ascii: "\n")) else {
            try self.check(self.headBytes + self.rest.readableBytes)
            return nil
        }
        let length = end - self.rest.readerIndex + 1
        self.headBytes += length
        try self.check(self.headBytes)
        let line = self.rest.readString(length: length) ?? ""
        // A CR before the LF is one Character with it.
        return line.dropLast()
    }

    private func check(_ bytes: Int) throws(HandshakeError) {
        guard bytes <= Self.limit else {
            throw HandshakeError("the head of the server's answer is over the limit of \(Self.limit) bytes")
        }
    }

    private static func statusLine(_ line: Substring) throws(HandshakeError) -> HandshakeResponse {
        let parts = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count >= 2, parts[0].hasPrefix("HTTP/1."), parts[1].utf8.count == 3, let status = Int(parts[1]),
            status >= 100
        else { throw HandshakeError("the server does not speak HTTP/1.1") }
        return HandshakeResponse(status: status, phrase: parts.count > 2 ? String(parts[2]) : "")
    }

    private static func header(_ line: Substring) throws(HandshakeError) -> (name: String, value: String) {
        guard let colon = line.firstIndex(of: ":"), colon != line.startIndex, line.first != " ", line.first != "\t"
        else {
            throw HandshakeError("the server's answer holds a line that is no header")
        }
        return (line[..<colon].lowercased(), String(line[line.index(after: colon)...].trimmed))
    }
}

extension Substring {
    fileprivate var trimmed: Substring {
        var text = self
        while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return text
    }
}
