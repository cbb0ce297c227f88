/// What befalls the gateway.
public enum HerdEvent: String, Sendable, CaseIterable {
    /// It is killed: every line ends at once. It is back after ``HerdSettings/outage``.
    case crash
    /// As `crash`, and while it is away attempts meet silence instead of a refusal.
    case unanswered
    /// It is stopped as planned: batches of clients are told `goaway`, and a second gateway takes them. The peers, which
    /// know no such word, are closed at once.
    case drain
    /// It vanishes without a word, as a host does that loses its power: each client finds out by itself. Not for peers.
    case vanish
}

/// What becomes of clients that come faster than the gateway can take them.
public enum HerdOverload: String, Sendable, CaseIterable {
    /// They wait in the listen queue; beyond ``HerdSettings/backlog`` a connect is dropped and the client's TCP repeats it.
    /// So does a gateway whose processor is the limit.
    case queue
    /// 503 with `Retry-After`, as a gateway answers that has reached a limit.
    case refuse
}

/// One run. Times are in milliseconds; each has the gateway's own default where the gateway has one.
public struct HerdSettings: Sendable, Equatable {
    public var clients = 10_000
    public var event = HerdEvent.crash
    /// From the crash to the restart.
    public var outage = 1000
    /// Connections that the gateway can take per second (`accept_rate`).
    public var acceptRate = 2000.0
    public var overload = HerdOverload.queue
    /// Connects that wait for the gateway (Linux: `net.core.somaxconn`).
    public var backlog = 4096
    public var roundTrip = 50
    /// `drain.window`.
    public var drainWindow = 5000
    /// `drain.deadline`.
    public var drainDeadline = 10_000
    /// Whether `hello` says how far to spread. Without it each client takes the least, which shows what it is good for.
    public var tellsSpread = true
    /// Crashes, each once everybody is back from the one before. From the second on, `hello` was said while the
    /// gateway was filling up, so that early clients were told a smaller spread.
    public var crashes = 1
    public var seed: UInt64 = 1

    public init() {}

    /// The promise (overview.md, P4): at most so many clients may knock in any 100 ms.
    public var knocksMax: Int { max(200, self.clients / 50) }
    /// The promise: 95 % are back so long after the restart; longer where the gateway cannot take them back as fast.
    public var backMax: Int { max(10_000, Int((Double(self.clients) / self.acceptRate * 2000).rounded(.up))) }

    /// How long a run is watched after the event, at most.
    var horizon: Int { self.outage + 900_000 + Int(Double(self.clients) / self.acceptRate * 4000) }
}
