import HoldfastBroker
import HoldfastCore
import HoldfastProtocol
import HoldfastServer
import Logging
import NIOCore

/// One run: a world of nodes, clients and networks, made from a plan.
///
/// Real are the clients' machines, the gateways with everything behind their sockets and the memory broker. Time, networks,
/// proxies, apps and services are models. Nothing in it knows a clock or a source of randomness other than the plan's seed.
final class Simulation {
    let plan: Plan
    let agenda = Agenda()
    let owner = LoopOwner()
    private let ledger = Ledger()
    private let dice: Dice
    private let configuration: Configuration
    private let filler: String
    private(set) var nodes: [SimulatedNode] = []
    private(set) var clients: [SimulatedClient] = []
    private(set) var judges: [ClientJudge] = []
    private var services: ServicesModel?
    private var memory: MemoryBroker?
    private var shared: SharedBroker?
    private var pipes: [Int: (pipe: Pipe, client: Int, node: Int)] = [:]
    private var pipeCount = 0
    private(set) var violation: Violation?
    /// What happened, for people; `nil` when nobody wants to know.
    var trace: Trace?
    private var publications = 0
    private var isSettling = false

    /// Seconds without faults at the end, in which everything has to become well.
    static let settleTime = 100.0
    /// When the last events are published, that everybody must have.
    static let lastWords = 60.0

    init(_ plan: Plan, trace: Trace? = nil) throws {
        self.plan = plan
        self.dice = Dice(seed: plan.seed, purpose: 1)
        self.configuration = .simulated(plan)
        self.filler = String(repeating: "x", count: plan.payload)
        self.trace = trace
        trace?.time = { [agenda] in agenda.seconds }
        try self.build()
    }

    // MARK: The world

    private func build() throws {
        let agenda = self.agenda
        self.services = ServicesModel(agenda, Dice(seed: self.plan.seed, purpose: 2)) { [unowned self] in
            self.fail($0, $1)
        }
        if self.plan.broker == .durable {
            let store = MemoryBroker(epoch: "e1", monotonic: { agenda.now }, wall: { agenda.now })
            self.shared = SharedBroker(store, nodes: self.plan.nodes, shardsPerNode: SimulatedNode.loopCount)
        }
        for index in 0..<self.plan.nodes {
            let dice = Dice(seed: self.plan.seed, purpose: 100 + UInt64(index))
            let node = SimulatedNode(index: index, agenda: agenda, owner: self.owner) {
                [unowned self] node, loops in
                try self.makeGateway(node, loops, dice)
            }
            node.onDown = { [unowned self] in self.shared?.forget($0.index) }
            node.onStep = { [unowned self] in self.check($0) }
            self.nodes.append(node)
            try node.start()
        }
        for index in 0..<self.plan.clients { self.addClient(index) }
        self.planPublishing()
        for fault in self.plan.faults {
            agenda.plan(in: fault.at) { [unowned self] in self.begin(fault) }
        }
    }

    private func makeGateway(_ node: SimulatedNode, _ loops: SimulatedLoops, _ dice: Dice) throws -> Gateway {
        var surroundings = Gateway.Surroundings()
        surroundings.random = { dice.next() }
        surroundings.services = self.services?.answer(for: node)
        let broker: any Broker
        if let shared = self.shared {
            broker = NodeBroker(shared, node: node.index)
        } else {
            let agenda = self.agenda
            let epoch = "e" + String(dice.next() & 0xFFFF, radix: 36)
            let memory = MemoryBroker(epoch: epoch, monotonic: { agenda.now }, wall: { agenda.now })
            self.memory = memory
            broker = memory
        }
        return try Gateway(self.configuration, loops, broker, Self.silence, surroundings)
    }

    private static let silence = Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() }

    private func addClient(_ index: Int) {
        let judge = ClientJudge(index, self.ledger) { [unowned self] in self.fail($0, $1) }
        let client = SimulatedClient(
            index: index, plan: self.plan, agenda: self.agenda,
            connect: { [unowned self] in self.connect($0, $1) },
            report: { [unowned self, unowned judge] client, news in
                self.trace?.add("client \(client.index)", "\(news)")
                judge.told(news)
            }
        )
        client.onOpen = { [unowned self, unowned client, unowned judge] line in
            self.trace?.add("client \(index)", "opens line \(line.id): \(line.transport.rawValue)")
            judge.opens(line, client.machine)
            if client.lines.count > 2 { self.fail(.single, "client \(index): \(client.lines.count) lines are open") }
        }
        client.onEnded = { [unowned self, unowned client, unowned judge] line in
            self.trace?.add("client \(index)", "line \(line.id) is gone")
            judge.ended(line, client.machine, now: self.agenda.now)
        }
        self.clients.append(client)
        self.judges.append(judge)
        let app = AppModel(client, judge, self.plan, self.agenda)
        self.apps.append(app)
        app.start()
    }

    private var apps: [AppModel] = []

    // MARK: Connections

    private func connect(_ client: SimulatedClient, _ preferred: Int?) -> Pipe {
        self.pipeCount += 1
        let id = self.pipeCount
        let node = self.balance(preferred)
        let pipe = Pipe(
            id: id, node: node.index, path: client.path, agenda: self.agenda,
            dice: Dice(seed: self.plan.seed, purpose: 1_000_000 + UInt64(id)))
        self.pipes[id] = (pipe, client.index, node.index)
        pipe.onEnd = { [unowned self] in self.pipes[id] = nil }
        node.accept(pipe)
        self.watch(pipe)
        return pipe
    }

    /// A balancer, which knows of most nodes whether they are there.
    private func balance(_ preferred: Int?) -> SimulatedNode {
        if let preferred, self.nodes[preferred].isUp { return self.nodes[preferred] }
        let ready = self.nodes.filter { $0.isUp && !$0.isDraining }
        return ready.isEmpty || self.dice.chance(0.1) ? self.dice.one(of: self.nodes) : self.dice.one(of: ready)
    }

    /// A proxy that closes connections.
    private func watch(_ pipe: Pipe) {
        if let limit = pipe.path.lifeLimits.min() {
            self.agenda.plan(in: limit) {
                if !pipe.isOver, !pipe.path.lifeLimits.isEmpty { pipe.cut(.finish) }
            }
        }
        self.watchIdle(pipe)
    }

    private func watchIdle(_ pipe: Pipe) {
        guard let limit = pipe.path.idleLimits.min() else { return }
        let due = pipe.lastWord + Int64(limit * 1_000_000)
        self.agenda.plan(at: due) {
            guard !pipe.isOver, !pipe.path.idleLimits.isEmpty else { return }
            if pipe.lastWord + Int64(limit * 1_000_000) <= self.agenda.now {
                pipe.cut(.finish)
            } else {
                self.watchIdle(pipe)
            }
        }
    }

    private func pipes(of client: Int) -> [Pipe] {
        self.pipes.keys.sorted().compactMap { id in
            self.pipes[id].flatMap { $0.client == client ? $0.pipe : nil }
        }
    }

    // MARK: Publishing

    private func planPublishing() {
        self.agenda.plan(in: self.dice.wait(mean: self.plan.publishEvery)) { [unowned self] in
            guard !self.isSettling else { return }
            self.publish(self.dice.number(0..<self.plan.topics))
            self.planPublishing()
        }
    }

    private func publish(_ topic: Int) {
        let name = AppModel.topic(topic)
        let number = self.ledger.nextNumber(of: name)
        guard let broker = self.shared?.store ?? (self.nodes[0].isUp ? self.memory : nil) else { return }
        let draft = PublicationDraft(
            subscription: name, data: ByteBuffer(string: "{\"k\":\(number),\"filler\":\"\(self.filler)\"}"))
        let history = self.configuration.services[AppModel.service(topic)]?.history ?? .none
        guard let receipt = try? broker.publishNow(draft, history: history) else { return }
        self.publications += 1
        self.ledger.publish(name, number, receipt.position)
        self.trace?.add("publisher", "\(name) \(number) at \(receipt.position.map { "\($0)" } ?? "no position")")
    }

    // MARK: Faults

    private func begin(_ fault: Fault) {
        guard !self.isSettling else { return }
        self.trace?.add("fault", "\(fault)")
        if fault.kind.strikesNode {
            self.strike(self.nodes[fault.target % self.nodes.count], fault)
        } else {
            let client = self.clients[fault.target % self.clients.count]
            let heal = self.strike(client, fault)
            self.agenda.plan(in: fault.length) { [unowned self] in
                self.trace?.add("fault", "over: \(fault.kind.rawValue) at client \(client.index)")
                heal()
            }
        }
    }

    /// - Returns: what ends it.
    private func strike(_ client: SimulatedClient, _ fault: Fault) -> () -> Void {
        let path = client.path
        switch fault.kind {
        case .cut:
            path.cutToServer += 1
            path.cutToClient += 1
            return {
                path.cutToServer -= 1
                path.cutToClient -= 1
            }
        case .cutToServer:
            path.cutToServer += 1
            return { path.cutToServer -= 1 }
        case .cutToClient:
            path.cutToClient += 1
            return { path.cutToClient -= 1 }
        case .forget, .forgetToClient:
            for pipe in self.pipes(of: client.index) {
                pipe.die(.toClient)
                if fault.kind == .forget { pipe.die(.toServer) }
            }
            return {}
        case .reset:
            for pipe in self.pipes(of: client.index) { pipe.cut(.reset) }
            return {}
        case .loss: return Self.add(fault.amount, to: path, \.losses)
        case .slow: return Self.add(fault.amount, to: path, \.delays)
        case .narrow: return Self.add(fault.amount, to: path, \.bandwidths)
        case .webSocketsRefused: return Self.add(.refused, to: path, \.webSockets)
        case .webSocketsHang: return Self.add(.hangs, to: path, \.webSockets)
        case .webSocketsSilent: return Self.add(.silent, to: path, \.webSockets)
        case .webSocketsDeaf: return Self.add(.deaf, to: path, \.webSockets)
        case .buffered:
            path.isBuffered += 1
            return { path.isBuffered -= 1 }
        case .idleCutter:
            let end = Self.add(fault.amount, to: path, \.idleLimits)
            for pipe in self.pipes(of: client.index) { self.watchIdle(pipe) }
            return end
        case .lifeCutter:
            let end = Self.add(fault.amount, to: path, \.lifeLimits)
            for pipe in self.pipes(of: client.index) { self.watch(pipe) }
            return end
        case .hidden:
            client.hide(true)
            return { client.hide(false) }
        case .throttled:
            client.throttle(true)
            return { client.throttle(false) }
        case .asleep:
            client.sleep(true)
            return { client.sleep(false) }
        case .offline:
            client.offline(true)
            return { client.offline(false) }
        case .doubt:
            client.input(.doubt)
            return {}
        case .changed:
            client.input(.changed)
            return {}
        case .reload:
            self.apps[client.index].reload()
            return {}
        case .crash, .vanish, .drain: return {}
        }
    }

    /// Faults may overlap: each takes away what it has brought.
    private static func add<Value: Equatable>(
        _ value: Value,
        to path: Path,
        _ list: ReferenceWritableKeyPath<Path, [Value]>
    ) -> () -> Void {
        path[keyPath: list].append(value)
        return {
            if let place = path[keyPath: list].firstIndex(of: value) { path[keyPath: list].remove(at: place) }
        }
    }

    private func strike(_ node: SimulatedNode, _ fault: Fault) {
        guard node.isUp else { return }
        switch fault.kind {
        case .drain:
            let window = min(fault.length, 20)
            node.drain(window: window)
            self.agenda.plan(in: window + 1) { [unowned self, gateway = node.gateway] in
                guard node.gateway === gateway else { return }
                node.closeAfterDrain()
                self.agenda.plan(in: 1) {
                    guard node.gateway === gateway else { return }
                    node.crash(isSilent: false)
                    self.restart(node, in: 1)
                }
            }
        default:
            node.crash(isSilent: fault.kind == .vanish)
            self.restart(node, in: fault.length)
        }
    }

    private func restart(_ node: SimulatedNode, in seconds: Double) {
        self.agenda.plan(in: seconds) { [unowned self] in
            self.trace?.add("node \(node.index)", "starts")
            do {
                try node.start()
            } catch {
                self.fail(.alive, "node \(node.index) could not be started: \(error)")
            }
        }
    }

    // MARK: Judging

    func fail(_ promise: Violation.Promise, _ text: String) {
        guard self.violation == nil else { return }
        self.violation = Violation(promise: promise, text: text, at: self.agenda.seconds)
        self.trace?.add("VIOLATION", "\(promise.rawValue): \(text)")
    }

    /// After each step of a node's loop.
    private func check(_ port: GatewayPort) {
        let bounds = self.plan.bounds
        port.inspect { session in
            if session.outboxEvents > bounds.outboxEvents, session.outboxEvents > 1 {
                self.fail(
                    .bounded, "an outbox keeps \(session.outboxEvents) events, the limit is \(bounds.outboxEvents)")
            }
            if session.outboxBytes > bounds.outboxBytes, session.outboxEvents > 1 {
                self.fail(.bounded, "an outbox keeps \(session.outboxBytes) bytes, the limit is \(bounds.outboxBytes)")
            }
            // One event may pass the limit, and what is repeated comes from the outbox, which has its own; a history is
            // taken piece by piece.
            let most = bounds.slowConsumerBytes + bounds.outboxBytes + self.plan.payload + 200_000
            if session.queueBytes > most {
                self.fail(
                    .bounded, "\(session.queueBytes) bytes wait for a client, the limit is \(bounds.slowConsumerBytes)")
            }
        }
    }

    /// No fault begins any more; those that have begun go on to their end.
    private func settle() {
        self.isSettling = true
        self.trace?.add("world", "no more faults")
    }

    // MARK: Running

    func run() -> Outcome {
        let end = Agenda.start + Int64(self.plan.minutes * 60_000_000)
        self.proceed(until: end)
        self.settle()
        let healed = (self.plan.faults.map { $0.at + $0.length }.max() ?? 0) + 25
        let start = max(end, Agenda.start + Int64(healed * 1_000_000))
        self.proceed(until: start)
        self.trace?.add("world", "all is well from here on")
        self.agenda.plan(in: Self.lastWords) { [unowned self] in
            for topic in 0..<self.plan.topics { self.publish(topic) }
        }
        for app in self.apps { app.comeToRest() }
        self.proceed(until: start + Int64(Self.settleTime * 1_000_000))
        if self.violation == nil {
            for (client, judge) in zip(self.clients, self.judges) { judge.settled(client.machine) }
        }
        let outcome = Outcome(
            violation: self.violation, steps: self.agenda.steps, virtualSeconds: self.agenda.seconds,
            publications: self.publications,
            messages: self.judges.reduce(0) { $0 + $1.topics.values.reduce(0) { $0 + $1.messages } },
            gaps: self.judges.reduce(0) { $0 + $1.topics.values.reduce(0) { $0 + $1.gaps } },
            connects: self.judges.reduce(0) { $0 + $1.connects }
        )
        self.takeDown()
        return outcome
    }

    private func proceed(until end: Int64) {
        while self.violation == nil, self.agenda.step(until: end) {}
    }

    private func takeDown() {
        self.trace = nil
        for node in self.nodes { node.crash(isSilent: true) }
        self.agenda.clear()
        for entry in self.pipes.values {
            entry.pipe.client = nil
            entry.pipe.server = nil
            entry.pipe.keeper = nil
            entry.pipe.onEnd = {}
        }
        self.pipes = [:]
    }
}

/// What came of a run.
public struct Outcome: Sendable {
    /// `nil`: all promises were kept.
    public let violation: Violation?
    public let steps: Int
    public let virtualSeconds: Double
    public let publications: Int
    public let messages: Int
    public let gaps: Int
    public let connects: Int
}

/// Lines for people, with the virtual time.
public final class Trace {
    public private(set) var lines: [String] = []
    var time: () -> Double = { 0 }
    /// Most lines that are kept; the oldest go.
    private let limit: Int

    public init(limit: Int = 100_000) { self.limit = limit }

    func add(_ who: String, _ what: String) {
        let time = String((self.time() * 1000).rounded() / 1000)
        let padding = String(repeating: " ", count: max(1, 10 - time.count))
        self.lines.append("\(padding)\(time)  \(who): \(what)")
        if self.lines.count > self.limit { self.lines.removeFirst(self.limit / 10) }
    }
}
