import HoldfastBroker
import HoldfastCore
import HoldfastProtocol
import HoldfastServer
import NIOCore

/// What the app around a client does: wants topics, changes its mind, says things.
final class AppModel {
    private let client: SimulatedClient
    private let judge: ClientJudge
    private let plan: Plan
    private let agenda: Agenda
    private let dice: Dice
    /// Nothing new is begun: all topics are wanted, and nothing is said.
    private var isQuiet = false
    private var hasStarted = false
    private var wanted: Set<String> = []
    /// To be asked for again.
    private var refused: Set<String> = []

    init(_ client: SimulatedClient, _ judge: ClientJudge, _ plan: Plan, _ agenda: Agenda) {
        self.client = client
        self.judge = judge
        self.plan = plan
        self.agenda = agenda
        self.dice = Dice(seed: plan.seed, purpose: 2000 + UInt64(client.index))
        judge.onStay = { [unowned self] in self.wanted.insert($0) }
        judge.onRefused = { [unowned self] topic in
            guard self.refused.insert(topic).inserted else { return }
            self.agenda.plan(in: 1) {
                guard self.refused.remove(topic) != nil, self.wanted.contains(topic) else { return }
                self.subscribe(topic)
            }
        }
    }

    /// Topics of two services: one keeps history, one does not.
    static func service(_ topic: Int) -> String { topic == 2 ? "live" : "calls" }
    static func topic(_ topic: Int) -> String { "\(Self.service(topic)).t\(topic)" }

    private var allTopics: [String] { (0..<self.plan.topics).map(Self.topic) }

    func start() {
        self.agenda.plan(in: self.dice.between(0, 2)) { [self] in
            self.hasStarted = true
            self.client.input(.connect)
            self.subscribeAll()
            self.planMessages()
            self.planChurn()
        }
    }

    private func subscribeAll() {
        for topic in self.allTopics { self.subscribe(topic) }
    }

    private func subscribe(_ topic: String) {
        self.wanted.insert(topic)
        self.refused.remove(topic)
        let command = self.client.nextCommand()
        self.judge.wants(topic, command)
        self.client.input(.subscribe(id: command, subscription: topic))
    }

    func reload() {
        guard self.hasStarted else { return }
        self.judge.reloads()
        self.wanted = []
        self.refused = []
        self.client.reload()
        self.subscribeAll()
    }

    private func planMessages() {
        guard let every = self.plan.messageEvery else { return }
        self.agenda.plan(in: self.dice.wait(mean: every)) { [self] in
            guard !self.isQuiet else { return }
            if !self.client.isAsleep, let topic = self.wanted.sorted().first {
                let id = "message-\(self.client.nextCommand())"
                self.judge.sends(id)
                self.client.input(.message(id: id, subscription: topic, data: ByteBuffer(string: "\"\(id)\"")))
            }
            self.planMessages()
        }
    }

    private func planChurn() {
        guard let every = self.plan.churnEvery else { return }
        self.agenda.plan(in: self.dice.wait(mean: every)) { [self] in
            guard !self.isQuiet else { return }
            let topic = self.dice.one(of: self.allTopics)
            defer { self.planChurn() }
            guard !self.client.isAsleep else { return }
            if self.wanted.contains(topic) { self.leave(topic) } else { self.subscribe(topic) }
        }
    }

    private func leave(_ topic: String) {
        // One that was refused is not there to be left.
        guard !self.refused.contains(topic) else { return }
        let command = self.client.nextCommand()
        self.wanted.remove(topic)
        self.judge.leaves(topic, command)
        self.client.input(.unsubscribe(id: command, subscription: topic))
    }

    func comeToRest() {
        self.isQuiet = true
        for topic in self.allTopics where !self.wanted.contains(topic) { self.subscribe(topic) }
    }
}

extension Configuration {
    /// The gateway of a plan.
    static func simulated(_ plan: Plan) -> Configuration {
        var configuration = Configuration()
        let bounds = plan.bounds
        var calls = Service()
        calls.requireAuthentication = false
        calls.history = HistorySettings(size: bounds.history, ttl: bounds.historySeconds)
        calls.callbacks[.message] = ServicesModel.url
        var live = calls
        live.history = HistorySettings.none
        configuration.services = ["calls": calls, "live": live]
        configuration.sessionTTL = bounds.sessionSeconds
        configuration.limits.outbox.events = bounds.outboxEvents
        configuration.limits.outbox.bytes = bounds.outboxBytes
        configuration.limits.slowConsumerBytes = bounds.slowConsumerBytes
        configuration.limits.sessions = bounds.sessions
        return configuration
    }
}
