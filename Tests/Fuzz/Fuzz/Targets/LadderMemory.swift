import HoldfastProtocol
import NIOCore

@testable import HoldfastCore

extension FuzzTarget {
    static let ladderMemory = FuzzTarget(
        name: "ladder-memory",
        about: "what a client has kept of WebSockets: written again it is the same; a machine takes any of it",
        maxBytes: 1024
    ) { bytes in
        guard let memory = LadderMemory(parsing: ByteBuffer(bytes: bytes)) else { return }
        requireSame(LadderMemory(parsing: memory.json()), memory, "a memory, written and read")
        // The machine's clock and that of the wall.
        let wall = memory.shifted(by: Span(microseconds: -1_800_000_000_000_000))
        requireSame(wall.shifted(by: Span(microseconds: 1_800_000_000_000_000)), memory, "there and back")
        for given in [memory, wall] { Self.live(with: given) }
    }

    /// A client begins with it, loses its WebSocket, gets the fallback, and is told of the memory again on the way.
    private static func live(with memory: LadderMemory) {
        var now = Instant(microseconds: 5_000_000_000)
        var machine = ConnectionMachine(random: { 0.5 })
        _ = machine.handle(.memory(memory), now: now)
        var waiting: [ConnectionInput] = [.connect]
        var timer: Instant?
        for step in 0..<24 {
            let input = waiting.isEmpty ? .timer : waiting.removeFirst()
            if case .timer = input { now = max(now + .milliseconds(10), timer ?? now) }
            for action in machine.handle(input, now: now) {
                switch action {
                case .open(let line, .websocket): waiting.append(.closed(line: line, code: CloseCode(rawValue: 1006)))
                case .open(let line, _):
                    waiting += [.opened(line: line), .receive(line: line, text: Self.hello), .heard(line: line)]
                case .timer(let at): timer = at
                case .remember(let kept): Self.check(kept)
                case .send, .listen, .close, .tell: break
                }
            }
            if step % 8 == 7 { waiting.append(.memory(memory)) }
            if step == 12 { waiting.append(.probe) }
        }
    }

    private static let hello = ByteBuffer(string: #"{"event":"hello","status":"ok","session":"s.t","resumed":false}"#)

    /// What is written must be what is read, or clients of one memory would fight over it.
    private static func check(_ kept: LadderMemory?) {
        guard let kept else { return }
        require(kept.attempts.count <= 8, "\(kept.attempts.count) attempts are kept")
        require(kept.attempts == kept.attempts.sorted(), "attempts out of order")
        require(kept.term >= .seconds(3600) && kept.term <= .seconds(86_400), "a verdict of \(kept.term.seconds) s")
        require((0...2).contains(kept.strikes) && (0...3).contains(kept.deaths), "strikes or deaths that cannot be")
    }
}
