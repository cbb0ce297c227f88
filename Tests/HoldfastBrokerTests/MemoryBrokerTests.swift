import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import HoldfastBroker

/// The store behind its lock and with its clocks.
@Suite struct MemoryBrokerTests {
    private let time = NIOLockedValueBox<Int64>(0)
    private let delivered = Delivered()

    private func makeBroker(shards: Int = 1) -> MemoryBroker {
        let time = self.time
        let broker = MemoryBroker(
            epoch: "e", monotonic: { time.withLockedValue { $0 } }, wall: { 1_776_765_600_000_000 })
        broker.start(BrokerOutlet(shards: shards, sink: self.delivered.sink))
        #expect(broker.isReady)
        return broker
    }

    private func subscribe(_ broker: MemoryBroker, since: Position? = nil, history: HistorySettings = TestStore.kept)
        throws -> Recovery
    {
        let answer = NIOLockedValueBox<Result<Recovery, BrokerError>?>(nil)
        broker.subscribe("s.t", shard: 0, since: since, history: history) { result in
            answer.withLockedValue { $0 = result }
        }
        return try #require(answer.withLockedValue { $0 }).get()
    }

    @Test func publishSubscribeHistory() async throws {
        let broker = self.makeBroker()
        let draft = PublicationDraft(subscription: "s.t", data: ByteBuffer(string: "1"), publishedAt: "P")
        #expect(try await broker.publish(draft, history: TestStore.kept) == PublishReceipt(id: "e-1", position: .at(1)))
        #expect(try self.subscribe(broker, since: .at(0)).sequences == [1])
        #expect(try await broker.publish(draft, history: TestStore.kept).position == .at(2))
        #expect(self.delivered.sequences == [2])
        let page = try await broker.history("s.t", since: 1, limit: 10)
        #expect(page.sequences == [2])
        #expect(page.publications.first?.receivedAt == "2026-04-21T10:00:00+00:00")
        #expect(page.publications.first?.publishedAt == "P")
        broker.unsubscribe("s.t", shard: 0, mayReturn: true)
        _ = try await broker.publish(draft, history: TestStore.kept)
        #expect(self.delivered.sequences == [2])
        #expect(broker.statistics.published == 3)
    }

    @Test func agesAreMeasuredOnTheMonotonicClock() async throws {
        let broker = self.makeBroker()
        _ = try await broker.publish(
            PublicationDraft(subscription: "s.t", data: ByteBuffer(string: "1")), history: TestStore.kept)
        self.time.withLockedValue { $0 = 9_999_999 }
        broker.expire()
        #expect(broker.statistics.historyPublications == 1)
        self.time.withLockedValue { $0 = 10_000_000 }
        broker.expire()
        #expect(broker.statistics.historyPublications == 0)
        #expect(broker.statistics.historyBytes == 0)
    }

    /// Publishers on many threads: offsets have neither holes nor duplicates, and every shard sees the same order.
    @Test func concurrentPublishers() async throws {
        let broker = self.makeBroker(shards: 2)
        for shard in 0..<2 {
            broker.subscribe("s.t", shard: shard, since: nil, history: TestStore.kept) { _ in }
        }
        let offsets = try await withThrowingTaskGroup(of: [UInt64].self) { group in
            for _ in 0..<8 {
                group.addTask {
                    var offsets: [UInt64] = []
                    for _ in 0..<250 {
                        let draft = PublicationDraft(subscription: "s.t", data: ByteBuffer(string: "1"))
                        offsets.append(try await broker.publish(draft, history: TestStore.kept).position?.offset ?? 0)
                    }
                    return offsets
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(offsets.sorted() == Array(1...2000))
        for shard in 0..<2 {
            #expect(self.delivered.all.filter { $0.shard == shard }.map(\.sequence) == Array(1...2000))
        }
    }

    @Test func historySettings() {
        #expect(!HistorySettings.none.isKept)
        #expect(!HistorySettings(size: 1, ttl: 0).isKept)
        #expect(!HistorySettings(size: 0, ttl: 1).isKept)
        #expect(HistorySettings(size: 1, ttl: 0.001).isKept)
    }
}
