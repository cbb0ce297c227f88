import HoldfastProtocol
import Testing

@testable import HoldfastBroker

/// Everything is bounded.
@Suite struct MemoryStoreBoundsTests {
    /// What one publication costs beside its payload.
    private static let overhead = 256

    @Test(arguments: [1, 2, 3, 10])
    func count(_ size: Int) throws {
        var store = TestStore(history: HistorySettings(size: size, ttl: 10))
        for _ in 0..<(size + 1) { try store.publish() }
        #expect(store.page().sequences == Array(2...UInt64(size + 1)))
        #expect(store.store.statistics.historyPublications == size)
        #expect(store.store.statistics.historyBytes == size * (1 + Self.overhead))
    }

    @Test func age() throws {
        var store = TestStore()
        try store.publish(at: 0)
        try store.publish(at: 4)
        try store.publish(at: 8)
        #expect(store.page(at: 9.999999).sequences == [1, 2, 3])
        #expect(store.page(at: 10).sequences == [2, 3])
        #expect(store.page(at: 17.999999).sequences == [3])
        #expect(store.page(at: 18).sequences == [])
        #expect(store.page(at: 18).position == .at(3))
        #expect(store.store.statistics.historyBytes == 0)
    }

    @Test func agesOfSeveralServices() throws {
        var store = TestStore(history: HistorySettings(size: 10, ttl: 5))
        try store.publish("short.t", at: 0)
        store.history = HistorySettings(size: 10, ttl: 50)
        try store.publish("long.t", at: 0)
        #expect(store.page("short.t", at: 5).sequences == [])
        #expect(store.page("long.t", at: 49.9).sequences == [1])
        #expect(store.page("long.t", at: 50).sequences == [])
    }

    /// Room for exactly three, over all topics and ages: the one published first goes first.
    @Test func bytesOverAllTopics() throws {
        let each = 100 + Self.overhead
        let data = String(repeating: "1", count: 100)
        for (limit, kept) in [(3 * each, 3), (3 * each - 1, 2), (3 * each + 1, 3)] {
            var store = TestStore(
                MemoryBroker.Limits(historyBytes: limit), history: HistorySettings(size: 100, ttl: 10))
            for (index, topic) in ["s.a", "s.b", "s.c", "s.d"].enumerated() {
                store.history.ttl = [10, 1000, 5, 70][index]
                try store.publish(topic, data, at: Double(index))
            }
            #expect(store.store.statistics.historyPublications == kept)
            #expect(store.store.statistics.historyBytes == kept * each)
            let left = ["s.a", "s.b", "s.c", "s.d"].filter { !store.page($0, at: 4).publications.isEmpty }
            #expect(left == ["s.a", "s.b", "s.c", "s.d"].suffix(kept))
        }
    }

    /// It has its place and is delivered; those who come back are told of a gap.
    @Test func onePublicationLargerThanAll() throws {
        var store = TestStore(MemoryBroker.Limits(historyBytes: 300))
        try store.subscribe()
        #expect(try store.publish("s.t", String(repeating: "1", count: 100)).position == .at(1))
        #expect(store.delivered.sequences == [1])
        #expect(store.store.statistics.historyBytes == 0)
        #expect(try store.subscribe(since: .at(0)).outcome == .gap(after: 0, next: 2))
    }

    @Test func numberOfTopics() throws {
        var store = TestStore(MemoryBroker.Limits(topics: 2))
        try store.publish("s.a")
        try store.publish("s.b")
        try store.publish("s.a")
        #expect(throws: BrokerError.self) { try store.publish("s.c") }
        #expect(throws: BrokerError.self) { try store.subscribe("s.c") }
        do {
            try store.publish("s.c")
            Issue.record("was taken")
        } catch let error as BrokerError {
            #expect(error.isRetriable)
            #expect(error.description.contains("2"))
        }
        // Nothing was published, and topics that there are still work.
        #expect(store.store.statistics.published == 3)
        #expect(try store.publish("s.b").position == .at(2))
    }

    /// Rather than refuse a topic, forget one that nobody uses, also before its time.
    @Test func roomIsMadeOfIdleTopics() throws {
        var store = TestStore(MemoryBroker.Limits(topics: 2))
        try store.publish("s.a")
        try store.subscribe("s.b")
        #expect(throws: BrokerError.self) { try store.subscribe("s.c", at: 5) }
        try store.subscribe("s.c", at: 11)
        #expect(store.store.statistics.topics == 2)
        #expect(throws: BrokerError.self) { try store.subscribe("s.a", at: 11) }
        store.unsubscribe("s.b", at: 12)
        #expect(try store.subscribe("s.a", since: .at(0), at: 12).outcome == .gap(after: 0, next: 2))
    }

    @Test func manyPublicationsThroughOneSmallHistory() throws {
        var store = TestStore()
        for number in 1...20_000 { try store.publish("s.t", "1", at: Double(number) / 10_000) }
        #expect(store.page(at: 2).sequences == [19_998, 19_999, 20_000])
        #expect(store.store.statistics.historyPublications == 3)
        store.expire(at: 100)
        #expect(store.store.statistics.historyPublications == 0)
        #expect(store.store.statistics.historyBytes == 0)
    }
}
