import NIOCore
import Testing

@testable import HoldfastFaults

@Suite("Middlebox: what proxies do that understand HTTP")
struct MiddleboxTests {
    static let upgrade = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    static let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    /// What came out at both ends, and the rest.
    struct Seen {
        var toServer = ""
        var toClient = ""
        var swallowed = 0
        var others: [Middlebox.Output] = []

        var notes: [Middlebox.Note] {
            self.others.compactMap { if case .note(let note) = $0 { note } else { nil } }
        }
    }

    struct Bench {
        var box: Middlebox
        var seen = Seen()

        init(_ upgrades: UpgradeFault = .pass, bufferBytes: Int = 0, duplicate: Bool = false) {
            self.box = Middlebox(
                settings: .init(upgrades: upgrades, bufferBytes: bufferBytes, duplicateRequests: duplicate))
        }

        mutating func client(_ text: String) {
            self.take(self.box.received(ByteBuffer(string: text), going: .toServer))
        }
        mutating func server(_ text: String) {
            self.take(self.box.received(ByteBuffer(string: text), going: .toClient))
        }

        mutating func take(_ outputs: [Middlebox.Output]) {
            for output in outputs {
                switch output {
                case .pass(let bytes, .toServer): self.seen.toServer += String(buffer: bytes)
                case .pass(let bytes, _): self.seen.toClient += String(buffer: bytes)
                case .swallow(let bytes, _): self.seen.swallowed += bytes
                default: self.seen.others.append(output)
                }
            }
        }
    }

    @Test(arguments: [200, 400, 404, 426, 501, 502, 204, 599]) func anUpgradeIsAnsweredAndTheConnectionKept(status: Int)
    {
        var it = Bench(.answer(status: status))
        for byte in Self.upgrade { it.client(String(byte)) }
        #expect(it.seen.toServer == "" && it.seen.swallowed == Self.upgrade.utf8.count)
        #expect(it.seen.toClient.hasPrefix("HTTP/1.1 \(status) "))
        #expect(it.seen.notes == [.upgradeRefused(.answer(status: status), target: "/socket")])
        var framer = HTTPFramer(role: .responses)
        var answer = ByteBuffer(string: it.seen.toClient)
        var last: HTTPFramer.Piece?
        while let piece = framer.next(&answer) { last = piece }
        #expect(last?.endsMessage == true, "a client knows where it ends")

        it.seen = Seen()
        it.client(Self.get)
        it.server(Self.ok)
        #expect(it.seen.toServer == Self.get && it.seen.toClient == Self.ok)
    }

    @Test func theAnswerWaitsForThoseBeforeIt() {
        var it = Bench(.answer(status: 400))
        it.client(Self.get + Self.upgrade)
        #expect(it.seen.toServer == Self.get && it.seen.toClient == "" && !it.box.mayReadClient)
        it.server(String(Self.ok.dropLast()))
        #expect(!it.box.mayReadClient)
        it.server("k")
        #expect(it.seen.toClient.hasPrefix(Self.ok + "HTTP/1.1 400 ") && it.box.mayReadClient)
    }

    @Test func anUpgradeHangsAndNothingFollowsIt() {
        var it = Bench(.hang)
        it.client(Self.upgrade + "early")
        it.client(Self.get)
        #expect(it.seen.toServer == "" && it.seen.toClient == "")
        #expect(it.seen.swallowed == (Self.upgrade + "early" + Self.get).utf8.count)
        it.take(it.box.settingsChanged(to: .init()))
        it.client("more")
        #expect(it.seen.toServer == "", "what was lost stays lost")
    }

    @Test func anUpgradeIsReset() {
        var it = Bench(.reset)
        it.client(Self.upgrade)
        #expect(it.seen.others.contains(.reset) && it.seen.toServer == "")
    }

    @Test(arguments: [UpgradeFault.answer(status: 400), .hang, .reset]) func otherRequestsPass(fault: UpgradeFault) {
        var it = Bench(fault)
        for (request, response) in [(HTTPFramerTests.requests.joined(), ""), (Self.get, Self.ok)] {
            for byte in request.utf8 { it.client(String(decoding: [byte], as: UTF8.self)) }
            it.server(response)
        }
        #expect(it.seen.toServer == HTTPFramerTests.requests.joined() + Self.get && it.seen.toClient == Self.ok)
        #expect(it.seen.notes.isEmpty)
    }

    @Test(arguments: [
        (UpgradeFault.silent, "", ""), (.onlyToServer, "ping", ""), (.onlyToClient, "", "pong"),
        (.pass, "ping", "pong"),
    ])
    func silenceAfterTheUpgrade(fault: UpgradeFault, toServer: String, toClient: String) {
        var it = Bench(fault)
        it.client(Self.upgrade)
        it.server(Self.switching)
        #expect(it.seen.others.contains(.upgraded) && it.box.isUpgraded)
        it.client("ping")
        it.server("pong")
        #expect(it.seen.toServer == Self.upgrade + toServer && it.seen.toClient == Self.switching + toClient)
        #expect(it.box.ended(.toServer).isPassed == !toServer.isEmpty)
        #expect(it.box.ended(.toClient).isPassed == !toClient.isEmpty)
    }

    @Test func silenceEndsWithTheFaultUnlessSomethingWasLost() {
        var it = Bench(.silent)
        it.client(Self.upgrade)
        it.server(Self.switching + "lost")
        it.take(it.box.settingsChanged(to: .init()))
        it.client("heard")
        it.server("behind a hole")
        #expect(it.seen.toServer == Self.upgrade + "heard" && it.seen.toClient == Self.switching)
    }

    @Test func aServerThatRefusesIsReported() {
        var it = Bench()
        it.client(Self.upgrade)
        it.server("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        #expect(it.seen.notes == [.upgradeRefusedByServer(status: 404, target: "/socket")] && !it.box.isUpgraded)
        it.client(Self.get)
        it.server(Self.ok)
        #expect(it.seen.toClient.hasSuffix(Self.ok))
    }

    @Test func aBufferHoldsAStreamAndPassesAnAnswerThatEnds() {
        var it = Bench(bufferBytes: 4_096)
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        it.client(Self.get)
        it.server(head + "5\r\nhello\r\n")
        #expect(it.seen.toClient == "", "the stream stalls, its head too")
        it.server("0\r\n\r\n")
        #expect(it.seen.toClient == head + "5\r\nhello\r\n0\r\n\r\n")
        it.seen = Seen()
        it.client(Self.get)
        it.server(Self.ok)
        #expect(it.seen.toClient == Self.ok, "a poll's answer passes whole")
    }

    @Test(arguments: [(-1, false), (0, true), (1, true)]) func aBufferIsFullAtItsSize(excess: Int, passes: Bool) {
        let head = "HTTP/1.1 200 OK\r\n\r\n"
        var it = Bench(bufferBytes: 1_000)
        it.client(Self.get)
        it.server(head)
        it.server(String(repeating: "x", count: 1_000 - head.utf8.count + excess))
        #expect(it.seen.toClient.isEmpty == !passes)
    }

    @Test func aBufferLetsGoAtTheEndOfTheConnectionAndOfTheFault() {
        var it = Bench(bufferBytes: 1_000)
        it.client(Self.get)
        it.server("HTTP/1.1 200 OK\r\n\r\nuntil close")
        it.take(it.box.ended(.toClient).outputs)
        #expect(it.seen.toClient.hasSuffix("until close"))

        it = Bench(bufferBytes: 1_000)
        it.client(Self.get)
        it.server("HTTP/1.1 200 OK\r\n\r\nstream")
        it.take(it.box.settingsChanged(to: .init()))
        #expect(it.seen.toClient.hasSuffix("stream"))
    }

    @Test func aBufferDoesNotHoldAnUpgrade() {
        var it = Bench(bufferBytes: 1_000)
        it.client(Self.upgrade)
        it.server(Self.switching)
        it.server("frame")
        #expect(it.seen.toClient == Self.switching + "frame")
    }

    @Test func everyRequestIsDuplicatedButUpgrades() {
        var it = Bench(duplicate: true)
        let post = HTTPFramerTests.requests[3]
        for byte in (post + Self.get).utf8 { it.client(String(decoding: [byte], as: UTF8.self)) }
        #expect(it.seen.toServer == post + Self.get)
        let copies = it.seen.others.map { if case .duplicate(let copy, _) = $0 { String(buffer: copy) } else { "" } }
        #expect(copies == [post, Self.get])
        it.seen = Seen()
        it.client("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx" + Self.upgrade)
        #expect(it.seen.others.isEmpty)
    }

    @Test(arguments: [(0, true), (1, false)]) func whatIsTooLargeIsNotDuplicated(excess: Int, isDuplicated: Bool) {
        let head = "POST / HTTP/1.1\r\nContent-Length: 60000\r\nA: "
        let size = Middlebox.duplicateLimit - 60_000 - head.utf8.count - 4 + excess
        var it = Bench(duplicate: true)
        it.client(head + String(repeating: "a", count: size) + "\r\n\r\n" + String(repeating: "b", count: 60_000))
        #expect(it.seen.others.contains { if case .duplicate = $0 { true } else { false } } == isDuplicated)
        #expect(it.seen.notes == (isDuplicated ? [] : [.tooLargeToDuplicate(target: "/")]))
    }

    @Test func moreRequestsThanTheLimitAreNotLookedInto() {
        var it = Bench(.answer(status: 400))
        for _ in 0..<Middlebox.pipelineLimit { it.client(Self.get) }
        #expect(it.seen.notes.isEmpty)
        it.client(Self.get + Self.upgrade)
        #expect(it.seen.notes == [.notHTTP])
        #expect(it.seen.toServer.hasSuffix(Self.get + Self.upgrade))
    }

    @Test func aServerThatSpeaksFirstSpeaksNoHTTP() {
        var it = Bench(.answer(status: 400), bufferBytes: 1_000)
        it.client("GE")
        it.server("220 mail.example\r\n")
        #expect(it.seen.toClient == "220 mail.example\r\n" && it.seen.toServer == "GE")
        it.client(Self.upgrade)
        #expect(it.seen.toServer == "GE" + Self.upgrade)
    }

    @Test func aHeadThatIsHeldGoesWhenItsClientDoesOrTheFaultDoes() {
        var it = Bench(.hang)
        it.client("GET / HT")
        #expect(it.seen.toServer == "")
        it.take(it.box.ended(.toServer).outputs)
        #expect(it.seen.toServer == "GET / HT")
        it = Bench(.hang)
        it.client("GET / HT")
        it.take(it.box.settingsChanged(to: .init()))
        it.client("TP/1.1\r\n\r\n")
        #expect(it.seen.toServer == "GET / HTTP/1.1\r\n\r\n")
    }

    /// Whatever the network makes of the segments and whatever faults come and go: the bytes are the same.
    @Test(arguments: 0..<200) func notAByteChangesUnderRandomSegmentation(seed: UInt64) {
        var chance = SeededGenerator(seed: seed)
        let exchanges: [(String, String)] = [
            (Self.get, Self.ok),
            (HTTPFramerTests.requests[3], "HTTP/1.1 100 Continue\r\n\r\n" + Self.ok),
            ("HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
            (
                HTTPFramerTests.requests[1],
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA: b\r\n\r\n"
            ),
            (HTTPFramerTests.requests[5], "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
        ]
        let chosen = (0..<Int.random(in: 1...12, using: &chance)).map { _ in exchanges.randomElement(using: &chance)! }
        var (toServer, toClient) = (chosen.map(\.0).joined(), chosen.map(\.1).joined())
        if Bool.random(using: &chance) {
            toServer += Self.upgrade + "frames"
            toClient += Self.switching + "\u{1}frames\r\n\r\n"
        }
        var it = Bench(
            bufferBytes: [0, 1, 40, 1_000].randomElement(using: &chance)!, duplicate: .random(using: &chance))
        var (up, down) = (ByteBuffer(string: toServer), ByteBuffer(string: toClient))
        // All requests first half of the time (pipelining), else they come as responses do.
        let isPipelined = Bool.random(using: &chance)
        while up.readableBytes + down.readableBytes > 0 {
            let mayAnswer = isPipelined ? up.readableBytes == 0 : up.readableBytes < toServer.utf8.count
            if up.readableBytes > 0, !mayAnswer || Bool.random(using: &chance) || !isPipelined {
                let size = min(up.readableBytes, .random(in: 1...40, using: &chance))
                it.client(String(buffer: up.readSlice(length: size)!))
            } else {
                let size = min(down.readableBytes, .random(in: 1...40, using: &chance))
                it.server(String(buffer: down.readSlice(length: size)!))
            }
            if Int.random(in: 0..<10, using: &chance) == 0 {
                it.take(it.box.settingsChanged(to: .init(bufferBytes: .random(in: 0...50, using: &chance))))
            }
        }
        it.take(it.box.ended(.toServer).outputs)
        it.take(it.box.ended(.toClient).outputs)
        #expect(it.seen.toServer == toServer, "seed \(seed)")
        #expect(it.seen.toClient == toClient, "seed \(seed)")
        #expect(it.seen.swallowed == 0)
        #expect(!it.seen.notes.contains(.notHTTP), "seed \(seed)")
    }
}
