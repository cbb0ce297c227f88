import HoldfastCore
import HoldfastProtocol
import NIOCore

/// Real machines, one for each client.
struct HoldfastFleet: HerdFleet {
    private struct Line {
        var id: Int32 = 0
        var isHTTP = false
        /// The gateway's life to which it belongs.
        var life: Int32 = 0
        var isTaken = false
        /// On HTTP: its first request is a `probe`.
        var isProbing = false
    }

    private struct Client {
        var machine: ConnectionMachine
        var timerAt = -1
        /// A machine has two lines at most.
        var lines = (Line(), Line())
        var isSettled = false
    }

    /// A line that ended without a Close frame (RFC 6455 §7.1.5).
    private static let abnormal = CloseCode(rawValue: 1006)

    private var clients: [Client]
    private(set) var settledCount = 0
    private var isLast = false
    private let session: SessionName
    private let drains: Bool

    init(_ settings: HerdSettings) {
        let dice = HerdDice(seed: settings.seed)
        var random = SplitMix64(seed: settings.seed)
        self.clients = (0..<settings.clients).map { _ in Client(machine: ConnectionMachine(random: dice.throwOnce)) }
        self.session = SessionName(using: &random)
        self.drains = settings.event == .drain
    }

    mutating func begin(isLast: Bool) {
        self.isLast = isLast
        self.settledCount = 0
    }

    func wants(_ line: Int32, of client: Int) -> Bool {
        let lines = self.clients[client].lines
        return line != 0 && (lines.0.id == line || lines.1.id == line)
    }

    mutating func handle(_ fact: HerdFact, of client: Int, _ network: inout HerdNetwork) {
        guard !self.clients[client].isSettled, let input = self.input(fact, of: client, &network) else { return }
        let now = Instant(microseconds: Int64(network.now) * 1000)
        let actions = self.clients[client].machine.handle(input, now: now)
        for action in actions { self.act(action, of: client, &network) }
    }

    /// - Returns: what the machine is told; `nil` if nothing.
    private mutating func input(_ fact: HerdFact, of client: Int, _ network: inout HerdNetwork) -> ConnectionInput? {
        switch fact {
        case .connect: return .connect
        case .timer:
            guard self.clients[client].timerAt == network.now else { return nil }
            self.clients[client].timerAt = -1
            return .timer
        case .knock: return nil
        case .taken(let line):
            self.take(line, of: client, &network)
            return nil
        case .opened(let line): return .opened(line: Int(line))
        case .refused(let line, let retryAfter):
            self.forget(line, of: client)
            let advice = retryAfter < 0 ? nil : RetryAfter.seconds(Double(retryAfter))
            return .closed(line: Int(line), code: Self.abnormal, retryAfter: advice)
        case .answer(let line, let answer): return self.input(answer, on: line, of: client)
        case .lost:
            guard let line = self.clients[client].machine.liveLine else { return nil }
            self.forget(Int32(line), of: client)
            return .closed(line: line, code: Self.abnormal)
        }
    }

    private mutating func input(_ answer: HerdAnswer, on line: Int32, of client: Int) -> ConnectionInput? {
        let text: ByteBuffer
        switch answer {
        case .comment: return .heard(line: Int(line))
        case .hello(let spread): text = self.hello(spread: spread)
        case .probe: text = ServerEvent.probe
        case .pong(let number): text = ServerEvent.pong(data: String(number), received: 0)
        case .goaway(let window):
            guard let line = self.clients[client].machine.liveLine else { return nil }
            text = ServerEvent.goaway(reason: "drain", retryAfter: 0...(Double(window) / 1000))
            return .receive(line: line, text: text)
        case .close:
            guard let line = self.clients[client].machine.liveLine,
                self.line(Int32(line), of: client).life == 0
            else { return nil }
            self.forget(Int32(line), of: client)
            return .closed(line: line, code: .drain)
        }
        return .receive(line: Int(line), text: text)
    }

    private func hello(spread: Int32) -> ByteBuffer {
        ServerEvent.hello(
            ServerEvent.Hello(
                session: self.session, received: nil, heartbeat: .init(), spread: Double(spread) / 1000,
                sessionTTL: 60, node: "simulated"
            )
        )
    }

    private mutating func act(_ action: ConnectionAction, of client: Int, _ network: inout HerdNetwork) {
        switch action {
        case .open(let line, let transport):
            self.add(Line(id: Int32(line), isHTTP: transport != .websocket, life: network.life), of: client)
            // On HTTP nothing is connected; the first request knocks.
            if transport == .websocket {
                network.knock(client, line: Int32(line))
            } else {
                network.plan(.opened(line: Int32(line)), for: client, in: 0)
            }
        case .send(let line, let text, _): self.send(text, on: Int32(line), of: client, &network)
        case .listen(let line, _, _, _):
            network.plan(.answer(line: Int32(line), .comment), for: client, in: network.settings.roundTrip)
        case .close(let line, _): self.forget(Int32(line), of: client)
        case .timer(let at): self.setTimer(at, of: client, &network)
        case .tell(.connected): self.isBack(client, &network)
        case .tell, .remember: break
        }
    }

    private mutating func send(_ text: ByteBuffer, on id: Int32, of client: Int, _ network: inout HerdNetwork) {
        var line = self.line(id, of: client)
        let event = WireEvent(text)
        if line.isHTTP, !line.isTaken {
            line.isProbing = event.name == "probe"
            self.replace(line, of: client)
            return network.knock(client, line: id)
        }
        guard network.reach == .up else { return }
        let roundTrip = network.settings.roundTrip
        // The gateway of this line is no more.
        if line.life != network.life, !self.drains {
            return network.plan(.refused(line: id, retryAfter: -1), for: client, in: roundTrip)
        }
        switch event.name {
        case "hello": network.greet(client, line: id, in: roundTrip)
        case "probe": network.plan(.answer(line: id, .probe), for: client, in: roundTrip)
        case "ping":
            let number = event["data"]?.string.flatMap { Int32($0) } ?? 0
            network.plan(.answer(line: id, .pong(number)), for: client, in: roundTrip)
        default: break
        }
    }

    /// The gateway has taken the connection, which may have begun before it was restarted.
    private mutating func take(_ id: Int32, of client: Int, _ network: inout HerdNetwork) {
        guard self.wants(id, of: client) else { return }
        let half = network.settings.roundTrip / 2
        var line = self.line(id, of: client)
        line.life = network.life
        line.isTaken = true
        self.replace(line, of: client)
        if !line.isHTTP {
            network.plan(.opened(line: id), for: client, in: half)
        } else if line.isProbing {
            network.plan(.answer(line: id, .probe), for: client, in: half)
        } else {
            network.greet(client, line: id, in: half)
        }
    }

    private mutating func isBack(_ client: Int, _ network: inout HerdNetwork) {
        network.record.isBack(client, at: network.now)
        // One that is back on its fallback will try a WebSocket beside it, which is a knock too.
        guard self.clients[client].machine.liveTransport == .websocket else { return }
        self.settledCount += 1
        self.clients[client].isSettled = self.isLast
    }

    private mutating func setTimer(_ at: Instant?, of client: Int, _ network: inout HerdNetwork) {
        guard let at else {
            self.clients[client].timerAt = -1
            return
        }
        let time = max(Int((at.microseconds + 999) / 1000), network.now)
        self.clients[client].timerAt = time
        network.timeline.plan(.timer, for: client, at: time)
    }

    // MARK: Lines

    private func line(_ id: Int32, of client: Int) -> Line {
        let lines = self.clients[client].lines
        return lines.0.id == id ? lines.0 : lines.1
    }

    private mutating func add(_ line: Line, of client: Int) {
        if self.clients[client].lines.0.id == 0 {
            self.clients[client].lines.0 = line
        } else {
            self.clients[client].lines.1 = line
        }
    }

    private mutating func replace(_ line: Line, of client: Int) {
        if self.clients[client].lines.0.id == line.id {
            self.clients[client].lines.0 = line
        } else {
            self.clients[client].lines.1 = line
        }
    }

    private mutating func forget(_ id: Int32, of client: Int) {
        if self.clients[client].lines.0.id == id { self.clients[client].lines.0 = Line() }
        if self.clients[client].lines.1.id == id { self.clients[client].lines.1 = Line() }
    }
}
