/// The gateway and the way to it, the same for every kind of client.
///
/// A connect takes a round trip. While the gateway is away it is refused by its host at once, or unanswered; then the
/// client's TCP repeats it after 1, 3, 7, … s (RFC 6298), and so it may get through after the restart.
struct HerdNetwork {
    enum Reach {
        case up, refuses, silent
    }

    let settings: HerdSettings
    var timeline: HerdTimeline
    var record: HerdRecord
    private(set) var reach = Reach.up
    /// Lives of the gateway so far. A line belongs to one.
    private(set) var life: Int32 = 0
    /// Before the first event everybody is there, and is told the spread of a full gateway.
    private var isSettled = true
    private var sessions = 0
    private var hasSession: [Bool]
    /// When the gateway has taken all who wait, in ms.
    private var freeAt = 0.0

    /// A refusing gateway lets this much of a second's rate come at once.
    private static let burst = 0.1
    /// The first repetition of a connect, in ms; the pause doubles.
    private static let repeatAfter = 1000
    private static let repeatsMax: UInt8 = 6

    init(_ settings: HerdSettings, end: Int) {
        self.settings = settings
        self.timeline = HerdTimeline(end: end)
        self.record = HerdRecord(clients: settings.clients)
        self.hasSession = Array(repeating: false, count: settings.clients)
    }

    var now: Int { self.timeline.now }
    private var oneWay: Int { self.settings.roundTrip / 2 }

    /// The gateway's life ends. - Parameter reach: what connects meet from now on.
    mutating func end(_ reach: Reach) {
        self.reach = reach
        self.life += 1
        self.isSettled = false
        self.sessions = 0
        self.freeAt = 0
        for index in self.hasSession.indices { self.hasSession[index] = false }
    }

    mutating func restart() {
        self.reach = .up
    }

    /// `spread` of the next `hello`, in ms, as the gateway computes it.
    private var spread: Int32 {
        guard self.settings.tellsSpread else { return 1000 }
        let sessions = self.isSettled ? self.settings.clients : self.sessions
        return Int32(max(1, Double(sessions) / self.settings.acceptRate) * 1000)
    }

    /// A client begins to connect.
    mutating func knock(_ client: Int, line: Int32) {
        if !self.isSettled { self.record.knock(client, at: self.now) }
        self.arrive(client, line: line, tries: 0)
    }

    /// A connect gets to where the gateway is, or was.
    mutating func arrive(_ client: Int, line: Int32, tries: UInt8) {
        switch self.reach {
        case .refuses: self.plan(.refused(line: line, retryAfter: -1), for: client, in: self.settings.roundTrip)
        case .silent: self.repeatKnock(client, line: line, tries: tries)
        case .up where self.isSettled: self.plan(.taken(line: line), for: client, in: self.oneWay)
        case .up: self.queue(client, line: line, tries: tries)
        }
    }

    private mutating func queue(_ client: Int, line: Int32, tries: UInt8) {
        let arrival = Double(self.now + self.oneWay)
        let cost = 1000 / self.settings.acceptRate
        let waiting = max(0, self.freeAt - arrival) / cost
        switch self.settings.overload {
        case .queue where waiting >= Double(self.settings.backlog):
            self.repeatKnock(client, line: line, tries: tries)
        case .refuse where waiting >= self.settings.acceptRate * Self.burst:
            let seconds = (self.spread + 999) / 1000
            self.plan(.refused(line: line, retryAfter: seconds), for: client, in: self.settings.roundTrip)
        case .queue, .refuse:
            self.freeAt = max(self.freeAt, arrival) + cost
            self.timeline.plan(.taken(line: line), for: client, at: Int(self.freeAt.rounded(.up)))
        }
    }

    private mutating func repeatKnock(_ client: Int, line: Int32, tries: UInt8) {
        let pause = Self.repeatAfter << Int(tries)
        // In the end TCP gives up (Linux: after 127 s).
        guard tries < Self.repeatsMax else {
            return self.plan(.refused(line: line, retryAfter: -1), for: client, in: pause)
        }
        self.plan(.knock(line: line, tries: tries + 1), for: client, in: pause)
    }

    /// `hello` has come: the answer is on its way.
    mutating func greet(_ client: Int, line: Int32, in delay: Int) {
        if !self.hasSession[client] {
            self.hasSession[client] = true
            self.sessions += 1
        }
        self.plan(.answer(line: line, .hello(spread: self.spread)), for: client, in: delay)
    }

    mutating func plan(_ fact: HerdFact, for client: Int, in delay: Int) {
        self.timeline.plan(fact, for: client, at: self.now + delay)
    }
}
