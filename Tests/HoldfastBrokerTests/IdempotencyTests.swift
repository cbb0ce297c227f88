import HoldfastProtocol
import Testing

@testable import HoldfastBroker

@Suite struct IdempotencyTests {
    @Test func theSameKeyPublishesOnce() throws {
        var store = TestStore()
        try store.subscribe()
        let first = try store.publish(key: "k")
        #expect(try store.publish("s.t", "other data", key: "k", at: 1) == first)
        #expect(store.delivered.sequences == [1])
        #expect(store.store.statistics.duplicates == 1)
        #expect(store.store.statistics.published == 1)
        #expect(store.page().sequences == [1])
    }

    @Test func keysBelongToASubscription() throws {
        var store = TestStore()
        let first = try store.publish("s.a", key: "k")
        let second = try store.publish("s.b", key: "k")
        #expect(first.id != second.id)
        #expect(try store.publish("s.a", key: "l").position == .at(2))
        #expect(try store.publish("s.a", key: "").position == .at(3))
        #expect(try store.publish("s.a", key: "").position == .at(3))
        #expect(try store.publish("s.a").position == .at(4))
    }

    @Test func keysAreForgottenAfterATime() throws {
        var store = TestStore(MemoryBroker.Limits(idempotencyTTL: 30))
        let first = try store.publish(key: "k", at: 0)
        #expect(try store.publish(key: "k", at: 29.999999) == first)
        // A repetition does not make the key younger.
        #expect(try store.publish(key: "k", at: 30) != first)
        store.expire(at: 31)
        #expect(store.store.statistics.idempotencyKeys == 1)
        store.expire(at: 60)
        #expect(store.store.statistics.idempotencyKeys == 0)
    }

    @Test(arguments: [1, 2, 3])
    func numberOfKeys(_ limit: Int) throws {
        var store = TestStore(MemoryBroker.Limits(idempotencyKeys: limit))
        let receipts = try (0...limit).map { try store.publish(key: "k\($0)") }
        // The last `limit` keys are known, the first is not.
        for number in 1...limit { #expect(try store.publish(key: "k\(number)") == receipts[number]) }
        #expect(try store.publish(key: "k0") != receipts[0])
        store.expire(at: 0)
        #expect(store.store.statistics.idempotencyKeys == limit)
    }

    @Test func noKeysAtAll() throws {
        var store = TestStore(MemoryBroker.Limits(idempotencyKeys: 0))
        #expect(try store.publish(key: "k") != store.publish(key: "k"))
    }

    /// A refused publication leaves no receipt behind.
    @Test func refusedPublicationsMayBeRepeated() throws {
        var store = TestStore(MemoryBroker.Limits(topics: 1))
        try store.publish("s.a")
        #expect(throws: BrokerError.self) { try store.publish("s.b", key: "k", at: 5) }
        store.expire(at: 20)
        #expect(try store.publish("s.b", key: "k", at: 20).position == .at(2))
    }
}
