import HoldfastCore
import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

@testable import HoldfastClient

/// What a line tells its owner.
private enum LineReport: Equatable {
    case opened
    case received(String)
    case ended(LineEnd)
}

/// Opens one line and writes down what it tells. Belongs to its loop.
private final class LineHolder: LineOwner {
    var isPaused = false
    let reports: NIOLockedValueBox<[LineReport]>
    private(set) var line: WebSocketLine?

    init(_ reports: NIOLockedValueBox<[LineReport]>) {
        self.reports = reports
    }

    func open(_ url: GatewayURL, through proxy: HTTPProxy? = nil, on loop: any EventLoop, messageBytes: Int) {
        let line = WebSocketLine(id: 1, messageBytes: messageBytes, owner: self)
        self.line = line
        line.connect(to: url, through: proxy, tls: nil, on: loop, timeout: .seconds(10))
    }

    func opened(_ line: any ClientLine) { self.reports.withLockedValue { $0.append(.opened) } }
    func received(_ line: any ClientLine, _ text: ByteBuffer) {
        self.reports.withLockedValue { $0.append(.received(String(buffer: text))) }
    }
    func heard(_ line: any ClientLine) {}
    func cut(_ line: any ClientLine, reason: String) {}
    func ended(_ line: any ClientLine, _ end: LineEnd) { self.reports.withLockedValue { $0.append(.ended(end)) } }
}

/// A line to a scripted server.
private struct Linked: Sendable {
    let server: ScriptedServer
    let holder: NIOLoopBound<LineHolder>
    let reportsBox: NIOLockedValueBox<[LineReport]>

    var reports: [LineReport] { self.reportsBox.withLockedValue { $0 } }
    var peer: ScriptedServer.Peer { self.server.peers[0] }

    func onLoop(_ body: @escaping @Sendable (LineHolder) -> Void) async throws {
        let holder = self.holder
        try await holder.eventLoop.submit { body(holder.value) }.get()
    }

    func expect(_ reports: [LineReport], sourceLocation: SourceLocation = #_sourceLocation) async throws {
        do {
            try await eventually("\(reports)", sourceLocation: sourceLocation) { self.reports == reports }
        } catch {
            Issue.record("told: \(self.reports)", sourceLocation: sourceLocation)
            throw error
        }
    }
}

private func withLine(
    messageBytes: Int = 1 << 20,
    answer: @escaping ScriptedServer.Answer = ScriptedServer.accept,
    _ body: (Linked) async throws -> Void
) async throws {
    let server = try await ScriptedServer.start(answer)
    let loop = MultiThreadedEventLoopGroup.singleton.next()
    let reports = NIOLockedValueBox<[LineReport]>([])
    let url = try GatewayURL("ws://127.0.0.1:\(server.port)")
    let holder = try await loop.submit {
        let holder = LineHolder(reports)
        holder.open(url, on: loop, messageBytes: messageBytes)
        return NIOLoopBound(holder, eventLoop: loop)
    }.get()
    let linked = Linked(server: server, holder: holder, reportsBox: reports)
    do {
        try await eventually("an answer") { !linked.reports.isEmpty }
        try await body(linked)
    } catch {
        await server.stop()
        throw error
    }
    await server.stop()
}

@Suite("Lines", .timeLimit(.minutes(1)))
struct LineTests {
    @Test func textGoesBothWaysWhole() async throws {
        try await withLine { it in
            try await it.onLoop {
                $0.line?.send(ByteBuffer(string: "one"), number: nil)
                $0.line?.send(ByteBuffer(string: String(repeating: "x", count: 70_000)), number: nil)
                $0.line?.flush()
            }
            try await eventually("both") { it.peer.messages.count == 2 }
            #expect(it.peer.messages[0] == .text(ByteBuffer(string: "one")))
            #expect(it.peer.messages[1] == .text(ByteBuffer(string: String(repeating: "x", count: 70_000))))
            #expect(it.peer.error == nil)
            // In two fragments with a Ping between them, and one more behind.
            var frames = ByteBuffer(bytes: [0x01, 2])
            frames.writeString("he")
            frames.writeBytes([0x89, 1, 0x21, 0x80, 3])
            frames.writeString("llo")
            WebSocketFrame.write(.text, ByteBuffer(string: "2"), into: &frames)
            try await it.peer.send(frames)
            try await it.expect([.opened, .received("hello"), .received("2")])
            try await eventually("the Pong has the Ping's bytes") {
                it.peer.messages.last == .pong(ByteBuffer(string: "!"))
            }
        }
    }

    @Test func framesMayComeWithTheHandshake() async throws {
        let answer: ScriptedServer.Answer = { key in
            var answer = ScriptedServer.accept(key)
            WebSocketFrame.write(.text, ByteBuffer(string: "early"), into: &answer)
            return answer
        }
        try await withLine(answer: answer) { it in
            try await it.expect([.opened, .received("early")])
        }
    }

    @Test func aBinaryMessageIsOneThatCannotBeRead() async throws {
        try await withLine { it in
            try await it.peer.send(.binary, "{}")
            try await it.expect([.opened, .received("")])
        }
    }

    @Test func theServersCloseIsAnsweredAndTold() async throws {
        try await withLine { it in
            try await it.peer.send(
                WebSocketFrame.unmasked(.close, WebSocketFrame.closePayload(.forbidden, reason: "go")))
            try await it.expect([
                .opened, .ended(LineEnd(.forbidden, "closed by the gateway with 4003: go", closeReason: "go")),
            ])
            try await eventually("answered, and closed") {
                it.peer.messages == [.close(code: .forbidden, reason: "")] && it.peer.hasEnded
            }
        }
    }

    @Test func aCloseWithoutACodeHasCode1005() async throws {
        try await withLine { it in
            try await it.peer.send(.close, "")
            try await it.expect([.opened, .ended(LineEnd(.none, "closed by the gateway with 1005"))])
        }
    }

    @Test func anEndWithoutAWordHasCode1006() async throws {
        try await withLine { it in
            try await it.peer.channel.close()
            try await it.expect([.opened, .ended(LineEnd(.abnormal, "the connection was lost"))])
        }
    }

    @Test func aBrokenRuleEndsTheLine() async throws {
        try await withLine { it in
            try await it.peer.send(WebSocketFrame.masked(.text, ByteBuffer(string: "x"), mask: 1))
            let rule = "a server's frame must not be masked"
            try await it.expect([
                .opened, .ended(LineEnd(.protocolError, "the gateway sent \(rule)", closeReason: rule)),
            ])
            try await eventually("told") { it.peer.messages == [.close(code: .protocolError, reason: rule)] }
        }
    }

    @Test(arguments: [0, 1]) func aMessageIsLimited(over: Int) async throws {
        try await withLine(messageBytes: 100) { it in
            let text = String(repeating: "x", count: 100 + over)
            try await it.peer.send(.text, text)
            guard over > 0 else { return try await it.expect([.opened, .received(text)]) }
            let rule = "frame of 101 bytes, the limit is 100"
            try await it.expect([
                .opened, .ended(LineEnd(.protocolError, "the gateway sent \(rule)", closeReason: rule)),
            ])
            try await eventually("told") { it.peer.messages == [.close(code: .messageTooBig, reason: rule)] }
        }
    }

    @Test func aLineThatIsLetGoSaysSoAndIsNeverHeardOfAgain() async throws {
        try await withLine { it in
            try await it.onLoop { holder in
                holder.line?.letGo(code: .normal)
                holder.line?.send(ByteBuffer(string: "too late"), number: nil)
                holder.line?.flush()
            }
            try await eventually("closed") { it.peer.hasEnded }
            #expect(it.peer.messages == [.close(code: .normal, reason: "")])
            #expect(it.reports == [.opened])
        }
    }

    @Test func aPausedOwnerIsHandedNothing() async throws {
        try await withLine { it in
            try await it.onLoop { holder in
                holder.isPaused = true
                holder.line?.setReading(false)
            }
            try await it.peer.send(.text, "later")
            try await it.onLoop { holder in
                #expect(holder.reports.withLockedValue { $0 } == [.opened])
                holder.isPaused = false
                holder.line?.setReading(true)
                holder.line?.readMessages()
            }
            try await it.expect([.opened, .received("later")])
        }
    }

    @Test func aRefusalHandsOnItsAdvice() async throws {
        let refusal = ByteBuffer(
            string: "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
        let answer: ScriptedServer.Answer = { _ in refusal }
        try await withLine(answer: answer) { it in
            let end = LineEnd(.abnormal, "the server answered 503 Service Unavailable", retryAfter: .seconds(7))
            try await it.expect([.ended(end)])
        }
    }

    @Test func aServerThatIsNotThereIsNamedInWords() async throws {
        let server = try await ScriptedServer.start()
        let port = server.port
        await server.stop()
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let reports = NIOLockedValueBox<[LineReport]>([])
        let url = try GatewayURL("ws://127.0.0.1:\(port)")
        // Kept until the end: a line does not keep its owner alive.
        let holder = try await loop.submit {
            let holder = LineHolder(reports)
            holder.open(url, on: loop, messageBytes: 1)
            return NIOLoopBound(holder, eventLoop: loop)
        }.get()
        try await eventually("refused") {
            reports.withLockedValue { $0 } == [.ended(LineEnd(.abnormal, "the connection was refused"))]
        }
        try await loop.submit { _ = holder.value }.get()
    }
}
