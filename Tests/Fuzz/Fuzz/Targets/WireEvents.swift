import HoldfastProtocol
import NIOCore

@testable import HoldfastCore

extension FuzzTarget {
    static let wireEvents = FuzzTarget(
        name: "wire-events",
        about:
            "what servers send, line by line, into a client machine: never a trap, data byte for byte, no secret shown",
        maxBytes: 4096
    ) { bytes in
        var client = FuzzedClient()
        for line in bytes.lines { client.take(line) }
        client.finish()
    }
}

/// A client machine whose server says what the input says. A line that begins with `!` is something else that happens.
private struct FuzzedClient {
    private var machine: ConnectionMachine
    private var now = Instant(microseconds: 1_000_000_000)
    private var lines: [Int] = []
    private var timerAt: Instant?
    /// The machine may open line after line; more than this is too much for one input.
    private static let mostOpened = 1000
    private var opened = 0

    init() {
        self.machine = ConnectionMachine(random: { 0.5 })
        self.handle(.connect)
        self.handle(.subscribe(id: "c1", subscription: "a.b", since: Position(epoch: "e", offset: 3)))
        self.handle(.message(id: "c2", subscription: "a.b", data: ByteBuffer(string: "1")))
    }

    mutating func take(_ line: [UInt8]) {
        guard line.first == UInt8(ascii: "!") else {
            let text = ByteBuffer(bytes: line)
            Self.check(WireEvent(text), text)
            guard let last = self.lines.last else { return }
            return self.handle(.receive(line: last, text: text))
        }
        self.happens(line.dropFirst().first ?? 0, Array(line.dropFirst(2)))
    }

    private mutating func happens(_ what: UInt8, _ rest: [UInt8]) {
        switch what {
        case UInt8(ascii: "t"):
            self.now = max(self.now, self.timerAt ?? self.now)
            self.handle(.timer)
        case UInt8(ascii: "w"): self.now = self.now + .milliseconds(Double(rest.first ?? 0) * 100)
        case UInt8(ascii: "c"):
            let code = rest.prefix(4).reduce(0) { ($0 &* 10) &+ UInt16($1 & 0x0F) }
            self.handle(.closed(line: self.lines.popLast() ?? 0, code: CloseCode(rawValue: code)))
        case UInt8(ascii: "x"): self.handle(.cut(line: self.lines.last ?? 0))
        case UInt8(ascii: "h"): self.handle(.heard(line: self.lines.first ?? 0))
        case UInt8(ascii: "f"): if self.lines.count > 1 { self.lines.swapAt(0, self.lines.count - 1) }
        case UInt8(ascii: "o"): self.handle(rest.first == UInt8(ascii: "n") ? .online : .offline)
        case UInt8(ascii: "s"): self.handle(rest.first == UInt8(ascii: "h") ? .hidden : .shown)
        case UInt8(ascii: "d"): self.handle(.doubt)
        case UInt8(ascii: "n"): self.handle(.changed)
        case UInt8(ascii: "p"): self.handle(.probe)
        case UInt8(ascii: "m"): self.handle(.memory(LadderMemory(parsing: ByteBuffer(bytes: rest))))
        case UInt8(ascii: "u"): self.handle(.unsubscribe(id: "c3", subscription: "a.b"))
        default: break
        }
    }

    mutating func finish() {
        self.handle(.close)
        require(self.machine.state == .closed || self.machine.state == .idle, "a client that does not close")
    }

    private mutating func handle(_ input: ConnectionInput) {
        for action in self.machine.handle(input, now: self.now) {
            switch action {
            case .open(let line, _): self.open(line)
            case .close(let line, _): self.lines.removeAll { $0 == line }
            case .timer(let at): self.timerAt = at
            case .send(_, let text, _):
                require(
                    (try? JSONObject(parsing: text)) != nil,
                    "a client that sends no JSON object: \(String(buffer: text))")
            case .tell(.message(let event)):
                require(event.name == "message", "a message that is a \(event.name ?? "nothing")")
            case .tell(.problem(let problem)):
                require(!problem.code.isEmpty, "a problem without a code")
            case .listen, .remember, .tell: break
            }
        }
        require(self.machine.now == self.now, "a machine with another time")
    }

    private mutating func open(_ line: Int) {
        self.opened += 1
        guard self.opened <= Self.mostOpened else { return }
        self.lines.append(line)
        require(self.lines.count <= 2, "more than two lines")
        self.handle(.opened(line: line))
    }

    private static func check(_ event: WireEvent, _ text: ByteBuffer) {
        requireSame(event.text, text, "an event's text")
        _ = (event.position, event.retryAfter, event.offset, event.span("spread"), event.span("heartbeat", "interval"))
        if let data = event.data {
            requireSame(try? JSONValue(parsing: data, limits: WireEvent.limits).raw, data, "data")
        }
        if let object = try? JSONObject(parsing: text, limits: WireEvent.limits) {
            require(event.isReadable, "an object that is taken for unreadable")
            requireSame(event.name, object["event"]?.string, "the event's name")
        }
        guard event.name == "hello", let session = event["session"]?.string, session.utf8.count > 20 else { return }
        require(!event.description.contains(session), "a secret in a description")
    }
}
