import HoldfastCore
import HoldfastProtocol
import NIOCore

/// One history: a client machine, a network that misbehaves, and a server that keeps the protocol. All that happens
/// follows from the seed.
final class Simulation {
    /// How often what a history is about has happened.
    struct Seen {
        var messages = 0
        var gaps = 0
        var recovered = 0
        var resumed = 0
        var sessions = 0
        var executed = 0
        var races = 0
    }

    /// The time of trouble, after which as much of peace follows. In ms.
    private static let trouble = 60_000
    private static let names = ["calls.a", "calls.b", "bare.c"]

    private final class Link {
        let transport: SimulatedServer.Transport
        var isOpen = true

        init(_ transport: SimulatedServer.Transport) {
            self.transport = transport
        }
    }

    private let clock = VirtualClock()
    private let random: SeededRandom
    private let network: SimulatedNetwork
    private let server: SimulatedServer
    private let tamper: (ConnectionAction) -> [ConnectionAction]
    private var machine: ConnectionMachine
    private var links: [Int: Link] = [:]
    private var readers: [String: SimulatedReader] = [:]
    /// Commands without a reply.
    private var waiting = Set<String>()
    private var lastCommand = 0
    /// An unsubscribe is under way.
    private var isLeaving = false
    /// Inputs that wait for the client to wake up.
    private var frozen: [ConnectionInput]?
    private var timerGeneration = 0
    private var seen = Seen()
    private var failure: BrokenPromise?

    /// - Parameter tamper: what becomes of each action; makes a machine that is wrong.
    private init(seed: UInt64, tamper: @escaping (ConnectionAction) -> [ConnectionAction]) {
        let random = SeededRandom(seed)
        self.random = random
        self.network = SimulatedNetwork(clock: self.clock, random: random, troubleUntil: Self.trouble)
        self.server = SimulatedServer(
            clock: self.clock,
            random: random,
            settings: SimulatedServer.Settings(
                history: random.pick(3..<60),
                sessionTTL: .milliseconds(Double(random.pick(500..<40_000))),
                outbox: random.pick(20..<400)
            )
        )
        var options = ConnectionMachine.Options()
        options.connectTimeout = .milliseconds(Double(random.pick(2_000..<10_000)))
        options.transports = [.websocket]
        self.machine = ConnectionMachine(options: options, random: random.next)
        self.tamper = tamper
    }

    /// - Throws: ``BrokenPromise``.
    static func run(
        seed: UInt64,
        tamper: @escaping (ConnectionAction) -> [ConnectionAction] = { [$0] }
    ) throws(BrokenPromise) -> Seen {
        try Simulation(seed: seed, tamper: tamper).run()
    }

    private func run() throws(BrokenPromise) -> Seen {
        self.plan()
        self.clock.run(until: 2 * Self.trouble)
        if let failure = self.failure { throw failure }
        guard self.machine.state == .connected else {
            throw BrokenPromise("stuck: \(self.machine.state) \(Self.trouble) ms after the network was good again")
        }
        guard self.waiting.isEmpty else { throw BrokenPromise("no reply to \(self.waiting.sorted())") }
        for (name, reader) in self.readers where !reader.isComplete {
            throw BrokenPromise("\(name): the last messages are missing, and nobody said so")
        }
        try self.checkExecuted()
        self.seen.executed = self.server.executed.count
        self.seen.races = self.machine.counts.races
        return self.seen
    }

    /// In one session every message is executed once and in the order of the calls.
    private func checkExecuted() throws(BrokenPromise) {
        var last: [String: Int] = [:]
        for (session, id) in self.server.executed {
            let number = Int(id.dropFirst()) ?? 0
            guard number > last[session] ?? 0 else {
                throw BrokenPromise("\(session): message \(id) came after \(last[session] ?? 0)")
            }
            last[session] = number
        }
    }

    // MARK: What is going to happen

    private func plan() {
        let (random, clock, end) = (self.random, self.clock, 2 * Self.trouble - 10_000)
        self.input(.connect)
        for name in Self.names { clock.at(random.pick(0..<20_000)) { self.subscribe(name) } }
        self.often(from: 300, every: 20..<1_500, until: end) { self.server.publish(Self.names[random.pick(0..<3)]) }
        self.often(from: 3_000, every: 50..<5_000, until: end) { self.sendMessage() }
        self.often(from: 40_000, every: 1_000..<40_000, until: Self.trouble) {
            if self.readers["calls.b"] == nil {
                self.subscribe("calls.b")
            } else if !self.isLeaving {
                self.unsubscribe("calls.b")
            }
        }
        self.often(from: 10_000, every: 50..<20_000, until: Self.trouble) { self.fault() }
        clock.at(Self.trouble) {
            self.network.opening = .good
            self.network.cutUntil = 0
            self.wake()
            self.input(.shown)
            self.input(.online)
        }
    }

    private func often(from: Int, every: Range<Int>, until end: Int, _ action: @escaping () -> Void) {
        var at = self.random.pick(0..<from)
        while at < end {
            self.clock.at(at, action)
            at += self.random.pick(every)
        }
    }

    private func nextID(_ prefix: String) -> String {
        self.lastCommand += 1
        return "\(prefix)\(self.lastCommand)"
    }

    private func subscribe(_ name: String) {
        guard self.readers[name] == nil else { return }
        self.readers[name] = SimulatedReader(self.server.topic(name))
        self.input(.subscribe(id: self.nextID("s"), subscription: name))
    }

    private func unsubscribe(_ name: String) {
        let id = self.nextID("u")
        self.waiting.insert(id)
        self.isLeaving = true
        self.input(.unsubscribe(id: id, subscription: name))
    }

    private func sendMessage() {
        let id = self.nextID("m")
        self.waiting.insert(id)
        self.input(.message(id: id, subscription: Self.names[0], data: ByteBuffer(string: "\"\(id)\"")))
    }

    private func fault() {
        let (random, clock, network) = (self.random, self.clock, self.network)
        let open = self.links.sorted { $0.key < $1.key }.map(\.value).filter(\.isOpen)
        switch random.pick(0..<17) {
        case 0:
            for link in open {
                link.transport.up.cut(until: .max)
                link.transport.down.cut(until: .max)
            }
        case 1: for link in open { link.transport.down.cut(until: .max) }
        case 2: for link in open { link.transport.up.cut(until: .max) }
        case 3:
            for link in open {
                let pipe = random.chance(0.5) ? link.transport.up : link.transport.down
                pipe.cut(until: clock.now + random.pick(500..<15_000))
            }
        case 4:
            for link in open {
                self.server.detach(link.transport)
                link.transport.closed(random.chance(0.5) ? CloseCode(rawValue: 1006) : .goingAway)
            }
        case 5:
            for link in open where link.transport.session != nil {
                self.server.close(
                    link.transport, [.normal, .heartbeatTimeout, .drain, .internalError][random.pick(0..<4)])
            }
        case 6: network.cutUntil = clock.now + random.pick(1_000..<20_000)
        case 7:
            network.opening = random.chance(0.5) ? .hanging : .refused
            clock.after(random.pick(500..<15_000)) { network.opening = .good }
        case 8: self.server.forgetSessions()
        case 9: self.server.newEpoch(Self.names[random.pick(0..<2)])
        case 10: self.server.goaway(within: Double(random.pick(0..<8)))
        case 11: self.input(.hidden)
        case 12: self.input(.shown)
        case 13: self.input(.offline)
        case 14: self.input(.online)
        case 15: self.input(.doubt)
        default:
            // The client's computer sleeps.
            if self.frozen == nil { self.frozen = [] }
            clock.after(random.pick(1_000..<90_000)) { self.wake() }
        }
    }

    private func wake() {
        guard let inputs = self.frozen else { return }
        self.frozen = nil
        let isTimer = { (input: ConnectionInput) in if case .timer = input { true } else { false } }
        // The timer may come before or after what stood in the sockets.
        let order = self.random.chance(0.5) ? inputs.filter(isTimer) + inputs.filter { !isTimer($0) } : inputs
        for input in order { self.input(input) }
    }

    // MARK: The client

    private func input(_ input: ConnectionInput) {
        guard self.failure == nil else { return }
        guard self.frozen == nil else {
            self.frozen?.append(input)
            return
        }
        for action in self.machine.handle(input, now: self.clock.instant) {
            for action in self.tamper(action) {
                do {
                    try self.perform(action)
                } catch {
                    self.failure = self.failure ?? BrokenPromise("at \(self.clock.now) ms: \(error)")
                }
            }
        }
    }

    private func perform(_ action: ConnectionAction) throws {
        switch action {
        case .open(let line, _): self.open(line)
        case .send(let line, let text, _):
            guard let transport = self.links[line]?.transport else { return }
            transport.up.send { self.server.receive(transport, text) }
        case .close(let line, _):
            guard let link = self.links[line] else { return }
            link.isOpen = false
            link.transport.up.send { self.server.detach(link.transport) }
        case .timer(let at):
            self.timerGeneration += 1
            let generation = self.timerGeneration
            guard let at else { return }
            self.clock.at(Int(at.microseconds / 1000) + self.random.pick(0..<5)) {
                if self.timerGeneration == generation { self.input(.timer) }
            }
        case .listen, .remember: throw BrokenPromise("what for, where there are only WebSockets?")
        case .tell(let news): try self.take(news)
        }
    }

    private func open(_ line: Int) {
        let pipe = { SimulatedPipe(clock: self.clock, network: self.network) }
        let link = Link(SimulatedServer.Transport(up: pipe(), down: pipe()))
        self.links[line] = link
        link.transport.received = { text in
            if link.isOpen { self.input(.receive(line: line, text: text)) }
        }
        link.transport.closed = { code in
            guard link.isOpen else { return }
            link.isOpen = false
            self.input(.closed(line: line, code: code))
        }
        switch self.network.opening {
        case .refused: self.clock.after(self.network.latency()) { link.transport.closed(CloseCode(rawValue: 1006)) }
        case .hanging: break
        case .good: link.transport.down.send { if link.isOpen { self.input(.opened(line: line)) } }
        }
    }

    private func take(_ news: ConnectionNews) throws {
        switch news {
        case .connected(let isResumed, _):
            if isResumed { self.seen.resumed += 1 } else { self.seen.sessions += 1 }
        case .subscribed(let name, let since, let event):
            if event.isRecovered { self.seen.recovered += 1 }
            self.readers[name]?.subscribed(event, since: since)
        case .unsubscribed(let name, _):
            self.isLeaving = false
            self.readers[name] = nil
        case .message(let event):
            self.seen.messages += 1
            guard let name = event.subscription, self.readers[name] != nil else {
                throw BrokenPromise("a message that nobody asked for: \(String(buffer: event.text))")
            }
            try self.readers[name]?.message(event)
        case .gap(let name, let after, let next):
            self.seen.gaps += 1
            let gap = SimulatedServer.Gap(subscription: name, after: after, next: next)
            try self.readers[name]?.gap(gap, of: self.server)
        case .reply(let id, let event):
            guard self.waiting.remove(id) != nil else { throw BrokenPromise("a second reply to \(id)") }
            guard event.status == "ok" else { throw BrokenPromise("\(id): \(event.error ?? "")") }
        case .state(let change):
            if change.state == .closed { throw BrokenPromise("closed: \(change.reason)") }
        case .problem(let problem): throw BrokenPromise("\(problem.code): \(problem.text)")
        case .roundTrip, .goaway: break
        }
    }
}
