import HoldfastProtocol
import NIOCore
import Testing

@testable import HoldfastBroker

@Suite struct ShardInterestTests {
    @Test func onlyShardsWithSubscribersAreGivenPublications() throws {
        var store = TestStore(shards: 3)
        try store.publish()
        try store.subscribe(shard: 0)
        try store.subscribe(shard: 2)
        try store.publish()
        store.unsubscribe(shard: 0)
        try store.publish()
        store.unsubscribe(shard: 2)
        try store.publish()
        #expect(store.delivered.all.map { [$0.sequence, UInt64($0.shard)] } == [[2, 0], [2, 2], [3, 2]])
    }

    @Test func topicsAreApart() throws {
        var store = TestStore(shards: 2)
        try store.subscribe("s.a", shard: 1)
        try store.publish("s.b")
        try store.publish("s.a", "\"a\"")
        #expect(store.delivered.all == [Delivered.Delivery(sequence: 1, shard: 1, data: "\"a\"")])
    }

    @Test func subscribingTwiceIsTheSameAsOnce() throws {
        var store = TestStore()
        try store.subscribe()
        try store.subscribe()
        try store.publish()
        #expect(store.delivered.sequences == [1])
        store.unsubscribe()
        store.unsubscribe()
        store.unsubscribe("s.unknown")
        try store.publish()
        #expect(store.delivered.sequences == [1])
    }

    /// The payload is a copy: a request's body must not live as long as the history.
    @Test func payloadsAreCopied() throws {
        var store = TestStore()
        let body = ByteBuffer(string: String(repeating: " ", count: 5000) + "[1]")
        let slice = try #require(body.getSlice(at: 5000, length: 3))
        let draft = PublicationDraft(subscription: "s.t", data: slice)
        _ = try store.store.publish(draft, history: TestStore.kept, receivedAt: "R", now: 0)
        let kept = try #require(store.page().publications.first)
        #expect(String(buffer: kept.data) == "[1]")
        #expect(kept.data.storageCapacity < 100)
        #expect(kept.receivedAt == "R")
    }
}
