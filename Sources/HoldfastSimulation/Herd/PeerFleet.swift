/// Clients that know one transport and a formula.
struct PeerFleet: HerdFleet {
    private struct Client {
        let base: Double
        var failures = 0
        var line: Int32 = 0
        /// The next attempt, or the end of this one.
        var timerAt = -1
        var isWaiting = false
    }

    private let backoff: PeerBackoff
    private var clients: [Client]
    private var random: SplitMix64
    private(set) var settledCount = 0

    init(_ backoff: PeerBackoff, _ settings: HerdSettings) {
        self.backoff = backoff
        var random = SplitMix64(seed: settings.seed)
        self.clients = (0..<settings.clients).map { _ in Client(base: random.fraction()) }
        self.random = random
    }

    mutating func begin(isLast: Bool) {
        self.settledCount = 0
    }

    func wants(_ line: Int32, of client: Int) -> Bool {
        self.clients[client].isWaiting && self.clients[client].line == line
    }

    mutating func handle(_ fact: HerdFact, of client: Int, _ network: inout HerdNetwork) {
        switch fact {
        case .connect, .knock: break
        case .lost:
            self.clients[client].failures = 0
            self.schedule(client, &network)
        case .timer:
            guard self.clients[client].timerAt == network.now else { return }
            if self.clients[client].isWaiting { self.failed(client, &network) } else { self.attempt(client, &network) }
        case .taken(let line):
            guard self.wants(line, of: client) else { return }
            // Until the gateway's first word.
            network.plan(.opened(line: line), for: client, in: network.settings.roundTrip / 2)
        case .opened(let line):
            guard self.wants(line, of: client) else { return }
            self.clients[client].isWaiting = false
            self.clients[client].timerAt = -1
            self.settledCount += 1
            network.record.isBack(client, at: network.now)
        case .refused(let line, _):
            if self.wants(line, of: client) { self.failed(client, &network) }
        case .answer: break
        }
    }

    private mutating func attempt(_ client: Int, _ network: inout HerdNetwork) {
        self.clients[client].line += 1
        self.clients[client].isWaiting = true
        self.clients[client].timerAt = -1
        network.knock(client, line: self.clients[client].line)
        if let timeout = self.backoff.connectTimeout { self.setTimer(timeout, of: client, &network) }
    }

    private mutating func failed(_ client: Int, _ network: inout HerdNetwork) {
        self.clients[client].isWaiting = false
        self.clients[client].failures += 1
        self.schedule(client, &network)
    }

    private mutating func schedule(_ client: Int, _ network: inout HerdNetwork) {
        let state = self.clients[client]
        guard let delay = self.backoff.delay(state.failures, state.base, { self.random.fraction() }) else {
            self.settledCount += 1
            return
        }
        self.setTimer(Int((min(delay, 1e6) * 1000).rounded()), of: client, &network)
    }

    private mutating func setTimer(_ delay: Int, of client: Int, _ network: inout HerdNetwork) {
        self.clients[client].timerAt = network.now + delay
        network.plan(.timer, for: client, in: delay)
    }
}
