import HoldfastProtocol
import Testing

@testable import HoldfastBroker

/// Where topics stand, and what a client that comes back is told.
@Suite struct MemoryStoreRecoveryTests {
    /// Offsets 1...5 were published, 3...5 are kept.
    private func makeStore() throws -> TestStore {
        var store = TestStore()
        for number in 1...5 { #expect(try store.publish("s.t", "\(number)").position == .at(UInt64(number))) }
        #expect(store.page().sequences == [3, 4, 5])
        return store
    }

    @Test func freshSubscription() throws {
        var store = try self.makeStore()
        let recovery = try store.subscribe()
        #expect(recovery.outcome == .fresh)
        #expect(recovery.position == .at(5))
        #expect(recovery.sequence == 5)
        #expect(recovery.sequences == [])
        let unknown = try store.subscribe("s.new")
        #expect(unknown.position == .at(0))
    }

    @Test(arguments: [(2, [3, 4, 5]), (3, [4, 5]), (4, [5]), (5, [])] as [(UInt64, [UInt64])])
    func recovers(_ since: UInt64, _ sequences: [UInt64]) throws {
        var store = try self.makeStore()
        let recovery = try store.subscribe(since: .at(since))
        #expect(recovery.outcome == .recovered)
        #expect(recovery.sequences == sequences)
        #expect(recovery.position == .at(5))
    }

    /// Exactly `after + 1 ..< next` are missing.
    @Test(arguments: [0, 1] as [UInt64])
    func historyDoesNotReachBack(_ since: UInt64) throws {
        var store = try self.makeStore()
        let recovery = try store.subscribe(since: .at(since))
        #expect(recovery.outcome == .gap(after: since, next: 3))
        #expect(recovery.sequences == [3, 4, 5])
        #expect(recovery.position == .at(5))
    }

    @Test(arguments: [Position.at(6), .at(.max), Position(epoch: "old", offset: 4), Position(epoch: "", offset: 0)])
    func positionsThatCannotBe(_ since: Position) throws {
        var store = try self.makeStore()
        let recovery = try store.subscribe(since: since)
        #expect(recovery.outcome == .gap(after: nil, next: 3))
        #expect(recovery.sequences == [3, 4, 5])
    }

    @Test func everythingHasExpired() throws {
        var store = try self.makeStore()
        let missed = try store.subscribe(since: .at(4), at: 11)
        #expect(missed.outcome == .gap(after: 4, next: 6))
        #expect(missed.sequences == [])
        let none = try store.subscribe(since: .at(5), at: 11)
        #expect(none.outcome == .recovered)
    }

    @Test func topicsWithoutHistory() throws {
        var store = TestStore(history: .none)
        #expect(try store.publish().position == nil)
        #expect(try store.publish().id == "e-2")
        let fresh = try store.subscribe()
        #expect(fresh.outcome == .fresh)
        #expect(fresh.position == nil)
        #expect(fresh.sequence == 2)
        let since = try store.subscribe(since: .at(1))
        #expect(since.outcome == .gap(after: nil, next: nil))
        #expect(since.sequences == [])
        #expect(store.store.statistics.historyPublications == 0)
    }

    /// No seam: each publication is either in the answer or handed to the sink.
    @Test func answerAndSinkTogetherAreComplete() throws {
        var store = try self.makeStore()
        #expect(store.delivered.all.isEmpty)
        let recovery = try store.subscribe(since: .at(2))
        try store.publish()
        try store.publish()
        #expect(recovery.sequences + store.delivered.sequences == [3, 4, 5, 6, 7])
    }

    /// A topic that was forgotten goes on above what it had, so that no offset is given twice.
    @Test func aForgottenTopicNeverReusesAnOffset() throws {
        var store = TestStore(MemoryBroker.Limits(topicTTL: 60))
        for _ in 0..<5 { try store.publish("s.a") }
        try store.publish("s.b")
        store.expire(at: 10)
        #expect(store.store.statistics.historyPublications == 0)
        #expect(store.store.statistics.topics == 2)
        store.expire(at: 69.999999)
        #expect(store.store.statistics.topics == 2)
        store.expire(at: 70)
        #expect(store.store.statistics.topics == 0)
        // Who had everything has still missed nothing; who had not is told.
        #expect(try store.subscribe("s.a", since: .at(5), at: 71).outcome == .recovered)
        #expect(try store.subscribe("s.a", since: .at(4), at: 71).outcome == .gap(after: 4, next: 6))
        #expect(try store.publish("s.a", at: 72).position == .at(6))
        #expect(try store.publish("s.b", at: 72).position == .at(6))
        #expect(store.page("s.never", at: 72).position == .at(5))
    }

    /// The time runs from when the topic was last used, not from the first time that it was idle.
    @Test func theTimeOfATopicRunsAnew() throws {
        var store = TestStore(MemoryBroker.Limits(topicTTL: 60))
        try store.subscribe("s.a", at: 0)
        store.unsubscribe("s.a", at: 0)
        try store.subscribe("s.a", at: 10)
        store.unsubscribe("s.a", at: 50)
        store.expire(at: 61)
        let topics = store.store.statistics.topics
        #expect(topics == 1)
    }

    @Test func aTopicInUseIsNotForgotten() throws {
        var store = TestStore(MemoryBroker.Limits(topicTTL: 60))
        try store.subscribe("s.a")
        store.expire(at: 10_000)
        #expect(store.store.statistics.topics == 1)
        store.unsubscribe("s.a", at: 10_000)
        try store.subscribe("s.a", at: 10_030)
        store.expire(at: 10_100)
        #expect(store.store.statistics.topics == 1)
        store.unsubscribe("s.a", at: 10_100)
        store.expire(at: 10_160)
        #expect(store.store.statistics.topics == 0)
    }
}
