import HoldfastProtocol
import NIOCore

/// How much of a topic is kept for those who come back.
public struct HistorySettings: Sendable, Hashable {
    /// Most publications; 0 keeps none, and the topic has no positions.
    public var size: Int
    /// Seconds after which a publication is forgotten.
    public var ttl: Double
    /// Most bytes, counted with what surrounds each publication in memory; the newest one stays whatever its size.
    public var bytes: Int

    public init(size: Int, ttl: Double, bytes: Int = 16 << 20) {
        self.size = size
        self.ttl = ttl
        self.bytes = bytes
    }

    public static let none = HistorySettings(size: 0, ttl: 0)

    public var isKept: Bool { self.size > 0 && self.ttl > 0 }
}

/// A message on its way to the broker.
public struct PublicationDraft: Sendable {
    /// `service.topic`.
    public var subscription: String
    /// One well-formed JSON value.
    public var data: ByteBuffer
    /// The publisher's own time, in SocketShark's form (``HoldfastProtocol/Timestamp/reformatted(_:)``).
    public var publishedAt: String?
    /// A publisher that repeats a publication with the same key and subscription publishes it once.
    public var idempotencyKey: String?
    /// Who gets it and when; `nil`: every subscriber at once.
    public var conditions: DeliveryConditions?
    /// What else the published object has, for brokers that hand it on: `options` and filter fields.
    public var members: [JSONObject.Member]

    public init(
        subscription: String,
        data: ByteBuffer,
        publishedAt: String? = nil,
        idempotencyKey: String? = nil,
        conditions: DeliveryConditions? = nil,
        members: [JSONObject.Member] = []
    ) {
        self.subscription = subscription
        self.data = data
        self.publishedAt = publishedAt
        self.idempotencyKey = idempotencyKey
        self.conditions = conditions
        self.members = members
    }

    /// The draft as a message for Redis (socketshark.md §8).
    var envelope: ByteBuffer {
        JSONWriter.object { json in
            json.member("subscription", self.subscription)
            json.member("data", raw: self.data)
            if let publishedAt = self.publishedAt { json.member("published_at", publishedAt) }
            for member in self.members { json.member(member.name, member.value) }
        }
    }
}

/// What became of a publication.
public struct PublishReceipt: Sendable, Equatable {
    public let id: String
    /// `nil` for topics without history.
    public let position: Position?
}

/// What a new subscription starts from.
public struct Recovery: Sendable {
    public enum Outcome: Sendable, Equatable {
        /// Nothing was asked for.
        case fresh
        /// Everything since the position that was asked for is in `publications`.
        case recovered
        /// The history does not reach back. `after`: what the client has, `nil` where the epoch is new; `next`: the offset
        /// of the first that it will get, `nil` where the topic has no history.
        case gap(after: UInt64?, next: UInt64?)
    }

    public let outcome: Outcome
    /// The newest publication of the topic; `nil` without history.
    public let position: Position?
    /// The same as a sequence number, which topics without history have too.
    public let sequence: UInt64
    /// To be delivered before anything newer, oldest first.
    public let publications: [Publication]

    public init(outcome: Outcome, position: Position?, sequence: UInt64, publications: [Publication]) {
        self.outcome = outcome
        self.position = position
        self.sequence = sequence
        self.publications = publications
    }
}

/// A part of a topic's history.
public struct HistoryPage: Sendable {
    public let position: Position
    public let publications: [Publication]
    /// Whether newer publications follow.
    public let hasMore: Bool
}

/// Why a broker did not do what it was asked to.
public struct BrokerError: Error, Sendable, Equatable, CustomStringConvertible {
    public let description: String
    /// Whether the same call may succeed later.
    public let isRetriable: Bool

    public init(_ description: String, isRetriable: Bool) {
        self.description = description
        self.isRetriable = isRetriable
    }
}

/// Numbers for the metrics page.
public struct BrokerStatistics: Sendable, Equatable {
    public var topics = 0
    public var historyPublications = 0
    public var historyBytes = 0
    public var idempotencyKeys = 0
    public var published: UInt64 = 0
    public var duplicates: UInt64 = 0
    /// Messages that came from outside and could not be taken, by reason.
    public var drops: [String: UInt64] = [:]
    /// Connections to the servers that the broker uses.
    public var connections: [Connection] = []
    /// Channels that are subscribed there, lingering ones included.
    public var channels = 0

    public struct Connection: Sendable, Equatable {
        /// The configuration's key.
        public let name: String
        public let isConnected: Bool
        /// Of the last PING, in seconds.
        public let latency: Double?
    }

    public init() {}
}

/// What a broker gives to the gateway.
public struct BrokerOutlet: Sendable {
    /// Called for each publication and shard with subscribers. Must not block: it only queues.
    public typealias Sink = @Sendable (_ publication: Publication, _ shard: Int) -> Void

    /// Parts of the gateway that fan out by themselves.
    public let shards: Int
    public let sink: Sink
    /// Whether so much waits for the gateway that the broker should take no more for now.
    public let isBusy: @Sendable () -> Bool
    /// A server that the broker needs is gone, or could not be reached in the first place.
    public let connectionLost: @Sendable (_ loss: ConnectionLoss) -> Void

    /// The broker can no longer get publications of a subscription.
    public let subscriptionLost: @Sendable (_ subscription: String) -> Void

    public enum ConnectionLoss: Sendable, Equatable {
        case lost
        case neverConnected(reason: String)
    }

    public init(
        shards: Int,
        isBusy: @escaping @Sendable () -> Bool = { false },
        connectionLost: @escaping @Sendable (ConnectionLoss) -> Void = { _ in },
        subscriptionLost: @escaping @Sendable (String) -> Void = { _ in },
        sink: @escaping Sink
    ) {
        self.shards = shards
        self.isBusy = isBusy
        self.connectionLost = connectionLost
        self.subscriptionLost = subscriptionLost
        self.sink = sink
    }
}

/// Where publications get their place and are kept.
///
/// A shard is one part of the gateway that fans out by itself (one per event loop). A broker hands each publication to
/// every shard that has subscribers, in the order of the topic.
public protocol Broker: Sendable {
    /// Connects the broker with the gateway; called once, before anything else.
    func start(_ outlet: BrokerOutlet)

    /// Lets go of what the broker holds outside of the process. Nothing is delivered any more.
    func stop() async

    /// - Throws: ``BrokerError`` when the publication was not accepted.
    func publish(_ draft: PublicationDraft, history: HistorySettings) async throws -> PublishReceipt

    /// Starts delivery of a topic to a shard and reads what a subscriber missed, without a seam between the two: every
    /// publication is either in the answer or handed to the sink afterwards; one that is in both is known by its sequence.
    ///
    /// - Parameters:
    ///   - since: position from which to recover; `nil` for live delivery only.
    ///   - completion: called once, on any thread, perhaps before this returns.
    func subscribe(
        _ subscription: String,
        shard: Int,
        since: Position?,
        history: HistorySettings,
        completion: @escaping @Sendable (Result<Recovery, BrokerError>) -> Void
    )

    /// Starts delivery to one more shard of a topic that another shard has: a session with a subscription moves there.
    /// - Returns: sequence of the topic's newest publication; those after it are handed to the sink.
    func extend(_ subscription: String, to shard: Int) throws(BrokerError) -> UInt64

    /// The shard's last subscriber has left.
    /// - Parameter mayReturn: whether one of them may come back with a position, and ask for what it missed.
    func unsubscribe(_ subscription: String, shard: Int, mayReturn: Bool)

    /// - Parameters:
    ///   - since: offset after which to begin; `nil` for the oldest that is kept.
    ///   - limit: most publications in the answer.
    func history(_ subscription: String, since: UInt64?, limit: Int) async throws -> HistoryPage

    /// Called about once a second: forgets what is too old.
    func expire()

    var isReady: Bool { get }
    var statistics: BrokerStatistics { get }
}

extension Broker {
    public func stop() async {}
}
