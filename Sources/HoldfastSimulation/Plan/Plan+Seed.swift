extension Plan {
    /// What a seed stands for. Each run has a random part of the kinds of faults only (swarm testing: Groce et al., ISSTA 2012):
    /// a run that has everything rarely gets far with anything.
    /// - Parameter minutes: `nil` lets the seed decide, from 1 to 10.
    public init(seed: UInt64, minutes: Double? = nil) {
        let dice = Dice(seed: seed)
        let length = dice.one(of: [1, 2, 3, 5, 10].map(Double.init))
        let broker: BrokerKind = dice.chance(0.5) ? .memory : .durable
        let nodes = broker == .memory ? 1 : dice.number(1..<4)
        self.init(
            seed: seed,
            minutes: minutes ?? length,
            broker: broker,
            nodes: nodes,
            clients: dice.number(1..<4),
            topics: dice.number(1..<4),
            publishEvery: dice.one(of: [0.3, 1, 3, 10]),
            payload: dice.one(of: [0, 0, 100, 3000]),
            messageEvery: dice.chance(0.5) ? dice.one(of: [2, 5, 20]) : nil,
            churnEvery: dice.chance(0.3) ? dice.one(of: [5, 30]) : nil,
            latency: dice.one(of: [0.001, 0.02, 0.15]),
            jitter: dice.one(of: [0, 0.005, 0.1]),
            clockDrift: dice.one(of: [0, 0.001, 0.05]),
            bounds: Bounds(),
            faults: []
        )
        self.bounds = Bounds(dice, clients: self.clients)
        let kinds = Fault.Kind.allCases.filter { _ in dice.chance(0.25) }
        guard !kinds.isEmpty else { return }
        let seconds = self.minutes * 60
        for _ in 0..<dice.number(1..<(4 + Int(self.minutes * 3))) {
            self.faults.append(Fault(dice, dice.one(of: kinds), within: seconds, clients: self.clients, nodes: nodes))
        }
        self.faults.sort { $0.at < $1.at }
    }
}

extension Plan.Bounds {
    init(_ dice: Dice, clients: Int) {
        self.init()
        guard dice.chance(0.4) else { return }
        if dice.chance(0.4) { self.history = dice.one(of: [1, 5, 50]) }
        if dice.chance(0.3) { self.historySeconds = dice.one(of: [2, 30]) }
        if dice.chance(0.4) { self.sessionSeconds = dice.one(of: [2, 10, 20]) }
        if dice.chance(0.4) { self.outboxEvents = dice.one(of: [1, 3, 20]) }
        if dice.chance(0.3) { self.outboxBytes = dice.one(of: [500, 5000]) }
        if dice.chance(0.3) { self.slowConsumerBytes = dice.one(of: [20_000, 60_000]) }
        if dice.chance(0.2) { self.sessions = clients + dice.number(0..<2) }
        if dice.chance(0.2) { self.clientQueueBytes = dice.one(of: [600, 3000]) }
    }
}

extension Fault {
    init(_ dice: Dice, _ kind: Kind, within seconds: Double, clients: Int, nodes: Int) {
        let amount: Double
        switch kind {
        case .loss: amount = dice.one(of: [0.02, 0.1, 0.4])
        case .slow: amount = dice.one(of: [0.3, 1, 4])
        case .narrow: amount = dice.one(of: [200, 1000, 20_000])
        case .idleCutter: amount = dice.one(of: [2, 6, 10, 30])
        case .lifeCutter: amount = dice.one(of: [5, 20, 45, 60, 90])
        default: amount = 0
        }
        self.init(
            kind: kind,
            at: dice.between(0, seconds),
            length: dice.one(of: [0.05, 0.5, 2, 5, 10, 30, 60, 120]) * dice.between(0.7, 1.3),
            target: dice.number(0..<(kind.strikesNode ? nodes : clients)),
            amount: amount
        )
    }
}
