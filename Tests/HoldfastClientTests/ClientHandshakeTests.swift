import HoldfastCore
import HoldfastProtocol
import NIOCore
import Testing

@testable import HoldfastClient

@Suite("Opening handshake (RFC 6455 §4.1)")
struct ClientHandshakeTests {
    private static let url = try! GatewayURL("ws://example.com:8080/live?x=1")

    private static func handshake() -> (handshake: ClientHandshake, key: String) {
        var random = SystemRandomNumberGenerator()
        let handshake = ClientHandshake(Self.url, using: &random)
        let lines = String(buffer: handshake.request).split(separator: "\r\n")
        let key = lines.first { $0.hasPrefix("Sec-WebSocket-Key: ") }.map { String($0.dropFirst(19)) }
        return (handshake, key ?? "")
    }

    private static func answer(_ key: String, _ change: (inout [String]) -> Void = { _ in }) -> String {
        var lines = [
            "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Accept: \(WebSocketHandshake.accept(key: key))",
        ]
        change(&lines)
        return lines.map { "\($0)\r\n" }.joined() + "\r\n"
    }

    private static func read(_ text: String) throws(HandshakeError) -> (response: HandshakeResponse?, rest: String) {
        var parser = HandshakeResponseParser()
        parser.append(ByteBuffer(string: text))
        let response = try parser.next()
        return (response, String(buffer: parser.rest))
    }

    @Test func theRequestHasAllThatTheRFCDemands() {
        let (handshake, key) = Self.handshake()
        let lines = String(buffer: handshake.request).components("\r\n")
        #expect(lines.first == "GET /live?x=1 HTTP/1.1")
        #expect(lines.contains("Host: example.com:8080"))
        #expect(lines.contains("Upgrade: websocket"))
        #expect(lines.contains("Connection: Upgrade"))
        #expect(lines.contains("Sec-WebSocket-Version: 13"))
        #expect(WebSocketHandshake.isValid(key: key))
        #expect(lines.suffix(2) == ["", ""])
        #expect(Self.handshake().key != key)
    }

    @Test func aGoodAnswerIsTakenHoweverItIsWritten() throws {
        let (handshake, key) = Self.handshake()
        let good = [
            Self.answer(key),
            Self.answer(key) {
                $0[1] = "uPGRADE:\tWebSocket "
                $0[2] = "CONNECTION: keep-alive , upgrade"
            },
            Self.answer(key) {
                $0[2] = "Connection: keep-alive"
                $0.append("Connection: Upgrade")
            },
            Self.answer(key) { $0[0] = "HTTP/1.1 101" },
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + Self.answer(key),
            Self.answer(key).replacing("\r\n", with: "\n"),
        ]
        for text in good {
            let (response, rest) = try Self.read(text)
            #expect(rest.isEmpty)
            try handshake.check(#require(response))
        }
    }

    @Test func itIsReadByteByByteAndInADirtyBufferAlike() throws {
        let text = Self.answer(Self.handshake().key)
        let whole = try #require(try Self.read(text + "frames").response)
        var parser = HandshakeResponseParser()
        for (index, byte) in text.utf8.enumerated() {
            #expect(try parser.next() == nil, "too early, at byte \(index)")
            var dirty = ByteBuffer(bytes: [0xFF, byte, 0xFF])
            dirty.moveReaderIndex(forwardBy: 1)
            parser.append(dirty.readSlice(length: 1) ?? ByteBuffer())
        }
        #expect(try parser.next() == whole)
        #expect(parser.rest.readableBytes == 0)
    }

    @Test func whatIsBehindTheHeadBelongsToTheWebSocket() throws {
        #expect(try Self.read(Self.answer("k") + "\u{81}\u{0}").rest == "\u{81}\u{0}")
    }

    @Test func anAnswerThatIsNotTheOneIsRefused() throws {
        let (handshake, key) = Self.handshake()
        let bad = [
            Self.answer("another key"),
            Self.answer(key) { $0.remove(at: 1) }, Self.answer(key) { $0.remove(at: 2) },
            Self.answer(key) { $0.remove(at: 3) },
            Self.answer(key) { $0[1] = "Upgrade: h2c" }, Self.answer(key) { $0[2] = "Connection: close" },
            Self.answer(key) { $0.append($0[3]) },
            Self.answer(key) { $0.append("Sec-WebSocket-Extensions: permessage-deflate") },
            Self.answer(key) { $0.append("Sec-WebSocket-Protocol: chat") },
            Self.answer(key) { $0[0] = "HTTP/1.1 200 OK" },
        ]
        for text in bad {
            let response = try #require(try Self.read(text).response)
            #expect(throws: HandshakeError.self, "\(text)") { try handshake.check(response) }
        }
    }

    @Test(arguments: [
        "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/2 101 x\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 1 x\r\n\r\n",
        "HTTP/1.1 abc x\r\n\r\n", "\r\n\r\n",
        "HTTP/1.1 101 x\r\nno header\r\n\r\n", "HTTP/1.1 101 x\r\nA: b\r\n folded\r\n\r\n",
        "HTTP/1.1 101 x\r\n: empty\r\n\r\n",
    ])
    func whatIsNotHTTPIsRefused(_ text: String) {
        #expect(throws: HandshakeError.self) { try Self.read(text) }
    }

    @Test func theHeadIsLimited() throws {
        let limit = HandshakeResponseParser.limit
        let frame = "HTTP/1.1 200 OK\r\nX: \r\n\r\n"
        let fill = String(repeating: "x", count: limit - frame.utf8.count)
        #expect(try Self.read(frame.replacing("X: ", with: "X: \(fill)")).response?.status == 200)
        #expect(throws: HandshakeError("the head of the server's answer is over the limit of \(limit) bytes")) {
            try Self.read(frame.replacing("X: ", with: "X: \(fill)x"))
        }
        #expect(throws: HandshakeError.self) { try Self.read(String(repeating: "x", count: limit + 1)) }
        // Whoever sends more behind the head than its limit has sent frames.
        #expect(try Self.read(frame + String(repeating: "x", count: limit)).rest.utf8.count == limit)
    }

    @Test(arguments: [
        ("5", RetryAfter.seconds(5)), ("0", .seconds(0)), ("Fri, 31 Dec 1999 23:59:59 GMT", nil), ("-1", nil),
        ("", nil),
    ])
    func theAdviceOfARefusalIsHandedOn(_ header: String, advice: RetryAfter?) throws {
        let (handshake, _) = Self.handshake()
        let answer = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: \(header)\r\n\r\n"
        let response = try #require(try Self.read(answer).response)
        #expect(throws: HandshakeError("the server answered 503 Service Unavailable", retryAfter: advice)) {
            try handshake.check(response)
        }
    }
}

extension String {
    fileprivate func components(_ separator: String) -> [String] {
        self.split(separator: separator, omittingEmptySubsequences: false).map(String.init)
    }
}
