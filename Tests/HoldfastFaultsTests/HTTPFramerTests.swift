import NIOCore
import Testing

@testable import HoldfastFaults

@Suite("HTTP framing: where messages end, and not a byte changed")
struct HTTPFramerTests {
    /// Cut into pieces of `size`.
    private func pieces(
        _ text: String, _ role: HTTPFramer.Role, size: Int = .max, hasNoBody: Bool = false
    ) -> [HTTPFramer.Piece] {
        var framer = HTTPFramer(role: role)
        var rest = ByteBuffer(string: text)
        var pieces: [HTTPFramer.Piece] = []
        while var bytes = rest.readSlice(length: min(size, rest.readableBytes)), bytes.readableBytes > 0 {
            while let piece = framer.next(&bytes, hasNoBody: hasNoBody) { pieces.append(piece) }
        }
        let all = pieces.reduce(into: ByteBuffer()) { $0.writeImmutableBuffer($1.bytes) }
        #expect(all == ByteBuffer(string: text))
        return pieces
    }

    private func count(_ pieces: [HTTPFramer.Piece]) -> [Int] {
        [pieces.count { $0.startsMessage }, pieces.count { $0.head != nil }, pieces.count { $0.endsMessage }]
    }

    static let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n1\r\n\n\r\n0\r\nTrailer: 1\r\n\r\n",
        "\r\nGET /old HTTP/1.0\nHost: a\n\n",
    ]

    @Test(arguments: [1, 2, 3, 7, .max]) func requestsOneBehindTheOther(size: Int) {
        let pieces = self.pieces(Self.requests.joined(), .requests, size: size)
        let count = Self.requests.count
        #expect(self.count(pieces) == [count, count, count])
        #expect(!pieces.contains { $0.isTunnel })
        #expect(pieces.compactMap(\.head).map(\.method) == ["GET", "POST", "POST", "POST", "POST", "GET"])
    }

    @Test(arguments: [1, 2, 3, 7, .max]) func responsesOneBehindTheOther(size: Int) {
        let responses = [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nuntil the end\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ]
        let pieces = self.pieces(responses.joined(), .responses, size: size)
        #expect(self.count(pieces) == [6, 6, 5])
        #expect(pieces.compactMap(\.head).map(\.status) == [100, 200, 304, 204, 200, 200])
    }

    @Test func aResponseToHEADHasNoBody() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
        #expect(self.pieces(text, .responses, hasNoBody: true).last?.endsMessage == true)
        #expect(self.pieces(text, .responses).last?.endsMessage == false)
    }

    @Test func upgradesAreSeen() {
        func wants(_ headers: String) -> Bool? {
            self.pieces("GET / HTTP/1.1\r\n\(headers)\r\n\r\n", .requests).last?.head?.wantsUpgrade
        }
        #expect(wants("Connection: Upgrade\r\nUpgrade: websocket") == true)
        #expect(wants("CONNECTION: keep-alive,  upgrade\r\nUPGRADE: h2c") == true)
        #expect(wants("Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: x") == true)
        #expect(wants("Upgrade: websocket") == false)
        #expect(wants("Connection: upgraded\r\nUpgrade: websocket") == false)
        #expect(wants("Connection: upgrade") == false)
    }

    @Test(arguments: [
        "SSH-2.0-OpenSSH_9.9\r\n", "\u{16}\u{3}\u{1}binary", "GET / HTTP/2.0\r\n\r\n", "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ])
    func whatIsNoHTTPIsATunnel(text: String) {
        for size in [1, 5, .max] {
            #expect(self.pieces(text + "and so on", .requests, size: size).last?.isTunnel == true)
        }
    }

    @Test func limitsAreHeldToTheByte() {
        let start = "GET / HTTP/1.1\r\nA: "
        let room = HTTPFramer.headLimit - start.utf8.count - 4
        for (excess, isTunnel) in [(0, false), (1, true)] {
            let head = start + String(repeating: "a", count: room + excess) + "\r\n\r\n"
            #expect(self.pieces(head, .requests).last?.isTunnel == isTunnel)
            #expect(self.pieces(head, .requests, size: 1_000).last?.isTunnel == isTunnel)
            let line = "1;" + String(repeating: "a", count: HTTPFramer.chunkLineLimit - 4 + excess) + "\r\n"
            let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + line
            #expect(self.pieces(chunked, .requests, size: 100).last?.isTunnel == isTunnel)
        }
    }
}
