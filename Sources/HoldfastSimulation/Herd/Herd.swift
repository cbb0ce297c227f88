/// A herd of clients, an event that takes their gateway away, and how they come back: in virtual time, from one seed.
public struct Herd {
    /// Before the event each client has been connected for 12 to 16 s, so that its line was useful.
    private static let arrival = 4000
    private static let settling = 12_000
    private static let batch = 100

    /// Runs our own client's machines.
    public static func run(_ settings: HerdSettings) -> HerdReport {
        HerdReport(
            name: "Holdfast", formula: "the machine itself", source: "client.md", settings: settings,
            record: Self.run(settings, HoldfastFleet(settings)))
    }

    /// Runs clients that follow another library's formula.
    public static func run(_ settings: HerdSettings, as peer: PeerBackoff) -> HerdReport {
        HerdReport(
            name: peer.name, formula: peer.formula, source: "peers.md \(peer.source)", settings: settings,
            record: Self.run(settings, PeerFleet(peer, settings)))
    }

    private static func run<Fleet: HerdFleet>(_ settings: HerdSettings, _ fleet: Fleet) -> HerdRecord {
        var herd = Running(settings, fleet)
        return herd.run()
    }

    /// One run.
    private struct Running<Fleet: HerdFleet> {
        let settings: HerdSettings
        var fleet: Fleet
        var network: HerdNetwork
        /// What will happen to the gateway, in order.
        var restartAt = Int.max

        init(_ settings: HerdSettings, _ fleet: Fleet) {
            self.settings = settings
            self.fleet = fleet
            let pause = Herd.arrival + Herd.settling
            self.network = HerdNetwork(settings, end: settings.crashes * (pause + settings.horizon))
        }

        /// - Returns: what was seen after the last event.
        mutating func run() -> HerdRecord {
            var random = SplitMix64(seed: ~self.settings.seed)
            for client in 0..<self.settings.clients {
                let at = Int(random.fraction() * Double(Herd.arrival))
                self.network.timeline.plan(.connect, for: client, at: at)
            }
            for number in 1...max(1, self.settings.crashes) {
                self.advance(to: self.network.now + Herd.arrival + Herd.settling) { _ in false }
                self.begin(isLast: number == self.settings.crashes)
                let end = self.network.now + self.settings.horizon
                let clients = self.settings.clients
                self.advance(to: end) { fleet in fleet.settledCount >= clients }
            }
            return self.network.record
        }

        /// Goes on to `end`, or until it is done.
        private mutating func advance(to end: Int, until isDone: (Fleet) -> Bool) {
            while true {
                if self.restartAt <= self.network.now {
                    self.restartAt = .max
                    self.network.restart()
                }
                guard !isDone(self.fleet) else { return }
                guard let event = self.network.timeline.next(before: min(end, self.restartAt)) else {
                    if self.restartAt <= self.network.now { continue }
                    return
                }
                let client = Int(event.client)
                if case .knock(let line, let tries) = event.fact {
                    guard self.fleet.wants(line, of: client) else { continue }
                    self.network.arrive(client, line: line, tries: tries)
                } else {
                    self.fleet.handle(event.fact, of: client, &self.network)
                }
            }
        }

        private mutating func begin(isLast: Bool) {
            let now = self.network.now
            self.network.record.begin(at: now)
            self.fleet.begin(isLast: isLast)
            switch self.settings.event {
            case .crash: self.network.end(.refuses)
            case .unanswered, .vanish: self.network.end(.silent)
            case .drain: self.network.end(.up)
            }
            if self.settings.event != .drain { self.restartAt = now + self.settings.outage }
            let isPeer = !(self.fleet is HoldfastFleet)
            for client in 0..<self.settings.clients {
                switch self.settings.event {
                case .drain where !isPeer: self.drain(client)
                case .vanish where !isPeer: break
                case .crash, .unanswered, .drain, .vanish:
                    self.network.plan(.lost, for: client, in: self.settings.roundTrip / 2)
                }
            }
        }

        /// As the gateway does it: batches over the window, each of which picks times within the window.
        private mutating func drain(_ client: Int) {
            let window = self.settings.drainWindow
            let batches = max(1, window / Herd.batch)
            let batch = client * batches / self.settings.clients
            let half = self.settings.roundTrip / 2
            self.network.plan(
                .answer(line: 0, .goaway(window: Int32(window))), for: client, in: batch * Herd.batch + half)
            self.network.plan(.answer(line: 0, .close), for: client, in: self.settings.drainDeadline + half)
        }
    }
}
