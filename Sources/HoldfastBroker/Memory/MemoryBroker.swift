import HoldfastProtocol
import NIOConcurrencyHelpers

/// The broker of one process: positions and history live in its memory and end with it.
///
/// One lock guards everything. It is held for a few microseconds per publication, and handing a publication to the sink
/// under it is what gives every shard the same order.
public final class MemoryBroker: Broker {
    /// Bounds over all topics.
    public struct Limits: Sendable, Equatable {
        /// Bytes of all histories together; beyond it the oldest publications of any topic go first.
        public var historyBytes: Int
        /// Topics with a history, a place or subscribers; beyond it publishing to a new one is refused.
        public var topics: Int
        /// Idempotency keys that are remembered; beyond it the oldest go first.
        public var idempotencyKeys: Int
        /// Seconds that an idempotency key is remembered.
        public var idempotencyTTL: Double
        /// Seconds after which a topic with neither history nor subscribers is forgotten.
        public var topicTTL: Double

        public init(
            historyBytes: Int = 256 << 20,
            topics: Int = 1_000_000,
            idempotencyKeys: Int = 100_000,
            idempotencyTTL: Double = 300,
            topicTTL: Double = 600
        ) {
            self.historyBytes = historyBytes
            self.topics = topics
            self.idempotencyKeys = idempotencyKeys
            self.idempotencyTTL = idempotencyTTL
            self.topicTTL = topicTTL
        }
    }

    /// Wall clock and monotonic clock, in microseconds.
    public typealias Clock = @Sendable () -> Int64

    private let state: NIOLockedValueBox<MemoryStore>
    private let monotonic: Clock
    private let wall: Clock

    /// - Parameters:
    ///   - epoch: names this process's life.
    ///   - monotonic: microseconds on a clock that only ages are measured with.
    ///   - wall: microseconds since 1970.
    public init(limits: Limits = Limits(), epoch: String, monotonic: @escaping Clock, wall: @escaping Clock) {
        self.state = NIOLockedValueBox(MemoryStore(limits: limits, epoch: epoch))
        self.monotonic = monotonic
        self.wall = wall
    }

    public func start(_ outlet: BrokerOutlet) {
        self.state.withLockedValue { $0.start(outlet) }
    }

    public func publish(_ draft: PublicationDraft, history: HistorySettings) async throws -> PublishReceipt {
        try self.publishNow(draft, history: history)
    }

    package func publishNow(_ draft: PublicationDraft, history: HistorySettings) throws(BrokerError) -> PublishReceipt {
        let now = self.monotonic()
        let receivedAt = Timestamp.text(microseconds: self.wall())
        return try self.state.withLockedValue { state in
            Result { () throws(BrokerError) in
                try state.publish(draft, history: history, receivedAt: receivedAt, now: now)
            }
        }.get()
    }

    /// Nobody knows what was published up to now: those who come back from before are told of a gap, and so are subscribers.
    func markGap(_ subscription: String, history: HistorySettings) {
        let now = self.monotonic()
        self.state.withLockedValue { $0.markGap(subscription, history: history, now: now) }
    }

    public func subscribe(
        _ subscription: String,
        shard: Int,
        since: Position?,
        history: HistorySettings,
        completion: @escaping @Sendable (Result<Recovery, BrokerError>) -> Void
    ) {
        completion(self.subscribe(subscription, shard: shard, since: since, history: history))
    }

    func subscribe(
        _ subscription: String,
        shard: Int,
        since: Position?,
        history: HistorySettings
    ) -> Result<Recovery, BrokerError> {
        let now = self.monotonic()
        return self.state.withLockedValue { state in
            Result { () throws(BrokerError) in
                try state.subscribe(subscription, shard: shard, since: since, history: history, now: now)
            }
        }
    }

    public func extend(_ subscription: String, to shard: Int) throws(BrokerError) -> UInt64 {
        try self.subscribe(subscription, shard: shard, since: nil, history: .none).get().sequence
    }

    public func unsubscribe(_ subscription: String, shard: Int, mayReturn: Bool) {
        let now = self.monotonic()
        self.state.withLockedValue { $0.unsubscribe(subscription, shard: shard, now: now) }
    }

    public func history(_ subscription: String, since: UInt64?, limit: Int) async throws -> HistoryPage {
        let now = self.monotonic()
        return self.state.withLockedValue { $0.history(subscription, since: since, limit: limit, now: now) }
    }

    public func expire() {
        let now = self.monotonic()
        self.state.withLockedValue { $0.expire(now: now) }
    }

    public var isReady: Bool { true }

    public var statistics: BrokerStatistics { self.state.withLockedValue { $0.statistics } }
}
