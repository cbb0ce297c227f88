/// All that a run depends on: what a seed is turned into, and what a failing run is made smaller by changing.
public struct Plan: Codable, Equatable, Sendable {
    public var seed: UInt64
    /// Virtual minutes with faults. A while without faults follows, in which everything has to become well again.
    public var minutes: Double
    public var broker: BrokerKind
    public var nodes: Int
    public var clients: Int
    public var topics: Int
    /// Seconds between two publications, on average.
    public var publishEvery: Double
    /// Bytes of a publication's filler.
    public var payload: Int
    /// What apps do besides listening; seconds between two of a client, on average; `nil` for never.
    public var messageEvery: Double?
    public var churnEvery: Double?
    /// One way, in seconds.
    public var latency: Double
    public var jitter: Double
    /// By how much clients' clocks run fast or slow, at most.
    public var clockDrift: Double
    public var bounds: Bounds
    public var faults: [Fault]

    public enum BrokerKind: String, Codable, Sendable {
        /// Positions die with the node.
        case memory
        /// Positions outlive nodes, which share them.
        case durable
    }

    /// Limits of the gateway, low enough to be reached where a run wants that.
    public struct Bounds: Codable, Equatable, Sendable {
        public var history = 1000
        public var historySeconds = 300.0
        public var sessionSeconds = 60.0
        public var outboxEvents = 10_000
        public var outboxBytes = 1 << 20
        public var slowConsumerBytes = 1 << 20
        public var sessions = 100_000
        public var clientQueueBytes = 1 << 20
    }
}

/// Something that goes wrong at some time for some time.
public struct Fault: Codable, Equatable, Sendable, CustomStringConvertible {
    public var kind: Kind
    /// Seconds since the start.
    public var at: Double
    /// Seconds.
    public var length: Double
    /// Which client or node, if it strikes one.
    public var target: Int
    /// Seconds, a share or bytes per second, as the kind wants it.
    public var amount: Double

    public enum Kind: String, Codable, Sendable, CaseIterable {
        // Of a client's network.
        case cut, cutToServer, cutToClient
        /// Connections that are there go dead, and nobody says so; new ones work. `forgetToClient`: in that direction only.
        case forget, forgetToClient
        /// Connections that are there get a reset.
        case reset
        case loss, slow, narrow
        // Of a proxy in front of a client.
        case webSocketsRefused, webSocketsHang, webSocketsSilent, webSocketsDeaf, buffered, idleCutter, lifeCutter
        // Of a client.
        case hidden, throttled, asleep, offline, doubt, changed, reload
        // Of a node.
        /// The process dies: connections are reset.
        case crash
        /// The machine dies: nobody is told.
        case vanish
        /// Stopped as planned, and started again.
        case drain

        var strikesNode: Bool {
            switch self {
            case .crash, .vanish, .drain: true
            default: false
            }
        }
    }

    public var description: String {
        let target = self.kind.strikesNode ? "node \(self.target)" : "client \(self.target)"
        let amount = self.amount == 0 ? "" : " (\(Self.short(self.amount)))"
        return "\(Self.short(self.at)) s: \(self.kind.rawValue)\(amount) at \(target) for \(Self.short(self.length)) s"
    }

    private static func short(_ value: Double) -> String { String((value * 1000).rounded() / 1000) }
}
