import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore

@testable import HoldfastBroker

/// What the sink was given, in order.
final class Delivered: Sendable {
    struct Delivery: Equatable {
        let sequence: UInt64
        let shard: Int
        let data: String
    }

    private let list = NIOLockedValueBox<[Delivery]>([])

    var all: [Delivery] { self.list.withLockedValue { $0 } }
    var sequences: [UInt64] { self.all.map(\.sequence) }

    var sink: BrokerOutlet.Sink {
        { publication, shard in
            self.list.withLockedValue {
                $0.append(
                    Delivery(sequence: publication.sequence, shard: shard, data: String(buffer: publication.data)))
            }
        }
    }
}

/// A store with short words for what the tests do, in seconds of virtual time.
struct TestStore {
    static let kept = HistorySettings(size: 3, ttl: 10)

    var store: MemoryStore
    let delivered = Delivered()
    var history: HistorySettings

    init(_ limits: MemoryBroker.Limits = .init(), history: HistorySettings = TestStore.kept, shards: Int = 1) {
        self.store = MemoryStore(limits: limits, epoch: "e")
        self.history = history
        self.store.start(BrokerOutlet(shards: shards, sink: self.delivered.sink))
    }

    private func micro(_ seconds: Double) -> Int64 { Int64(seconds * 1_000_000) }

    @discardableResult
    mutating func publish(_ topic: String = "s.t", _ data: String = "1", key: String? = nil, at: Double = 0) throws
        -> PublishReceipt
    {
        let draft = PublicationDraft(subscription: topic, data: ByteBuffer(string: data), idempotencyKey: key)
        return try self.store.publish(draft, history: self.history, receivedAt: "", now: self.micro(at))
    }

    @discardableResult
    mutating func subscribe(_ topic: String = "s.t", shard: Int = 0, since: Position? = nil, at: Double = 0) throws
        -> Recovery
    {
        try self.store.subscribe(topic, shard: shard, since: since, history: self.history, now: self.micro(at))
    }

    mutating func unsubscribe(_ topic: String = "s.t", shard: Int = 0, at: Double = 0) {
        self.store.unsubscribe(topic, shard: shard, now: self.micro(at))
    }

    mutating func page(_ topic: String = "s.t", since: UInt64? = nil, limit: Int = 100, at: Double = 0) -> HistoryPage {
        self.store.history(topic, since: since, limit: limit, now: self.micro(at))
    }

    mutating func expire(at: Double) { self.store.expire(now: self.micro(at)) }
}

extension Recovery {
    var sequences: [UInt64] { self.publications.map(\.sequence) }
}

extension HistoryPage {
    var sequences: [UInt64] { self.publications.map(\.sequence) }
}

extension Position {
    /// A position in the store's own epoch.
    static func at(_ offset: UInt64) -> Position { Position(epoch: "e", offset: offset) }
}
