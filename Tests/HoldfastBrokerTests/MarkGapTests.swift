import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import HoldfastBroker

/// A store that says of each publication whether it is a gap: `1 2! 3` has one at 2.
private struct MarkedStore {
    var test: TestStore
    private let delivered = NIOLockedValueBox<[String]>([])

    init(history: HistorySettings = HistorySettings(size: 5, ttl: 10), shards: Int = 1) {
        self.test = TestStore(history: history, shards: shards)
        let delivered = self.delivered
        self.test.store.start(
            BrokerOutlet(shards: shards) { publication, shard in
                let word = Self.words([publication]) + (shards > 1 ? "/\(shard)" : "")
                delivered.withLockedValue { $0.append(word) }
            })
    }

    static func words(_ publications: [Publication]) -> String {
        publications.map { "\($0.sequence)\($0.isGap ? "!" : "")" }.joined(separator: " ")
    }

    /// What subscribers were given.
    var told: String { self.delivered.withLockedValue { $0.joined(separator: " ") } }

    mutating func publish(_ topic: String = "s.t", at seconds: Double = 0) throws {
        try self.test.publish(topic, at: seconds)
    }

    mutating func markGap(_ topic: String = "s.t", at seconds: Double = 0) {
        self.test.store.markGap(topic, history: self.test.history, now: Int64(seconds * 1_000_000))
    }

    mutating func subscribe(
        _ topic: String = "s.t",
        shard: Int = 0,
        since: Position? = nil,
        at seconds: Double = 0
    ) throws -> Recovery {
        try self.test.subscribe(topic, shard: shard, since: since, at: seconds)
    }

    mutating func page(since: UInt64? = nil, limit: Int = 100, at seconds: Double = 0) -> HistoryPage {
        self.test.page(since: since, limit: limit, at: seconds)
    }
}

@Suite struct MarkGapTests {
    /// Offsets 1, 2, 4 and 5 were published, 3 is a gap.
    private func makeStore() throws -> MarkedStore {
        var store = MarkedStore()
        for _ in 0..<2 { try store.publish() }
        store.markGap()
        for _ in 0..<2 { try store.publish() }
        return store
    }

    @Test func takesASequence() throws {
        var store = try self.makeStore()
        let recovery = try store.subscribe()
        #expect(recovery.sequence == 5)
        #expect(recovery.position == .at(5))
        #expect(recovery.publications.isEmpty)
    }

    @Test func isWhatItShouldBe() throws {
        var store = try self.makeStore()
        let mark = try #require(try store.subscribe(since: .at(2)).publications.first)
        #expect(mark.isGap)
        #expect(mark.subscription == "s.t")
        #expect(mark.position == .at(3))
        #expect(mark.data.readableBytes == 0)
        #expect(mark.conditions == nil)
        #expect(mark.publishedAt == nil)
    }

    @Test func subscribersGetIt() throws {
        var store = MarkedStore(shards: 3)
        _ = try store.subscribe(shard: 0)
        _ = try store.subscribe(shard: 2)
        _ = try store.subscribe("s.other", shard: 1)
        try store.publish()
        store.markGap()
        try store.publish()
        #expect(store.told == "1/0 1/2 2!/0 2!/2 3/0 3/2")
    }

    @Test(arguments: [(0, "1 2 3! 4 5"), (1, "2 3! 4 5"), (2, "3! 4 5"), (3, "4 5"), (5, "")] as [(UInt64, String)])
    func recoveryAcrossItContainsIt(_ since: UInt64, _ words: String) throws {
        var store = try self.makeStore()
        let recovery = try store.subscribe(since: .at(since))
        #expect(recovery.outcome == .recovered)
        #expect(MarkedStore.words(recovery.publications) == words)
    }

    /// What is older than the history is missing anyway.
    @Test func recoveryFromBeforeTheHistory() throws {
        var store = try self.makeStore()
        for _ in 0..<2 { try store.publish() }
        let recovery = try store.subscribe(since: .at(1))
        #expect(recovery.outcome == .gap(after: 1, next: 3))
        #expect(MarkedStore.words(recovery.publications) == "3! 4 5 6 7")
    }

    @Test func historyHidesIt() throws {
        var store = try self.makeStore()
        let page = store.page()
        #expect(page.sequences == [1, 2, 4, 5])
        #expect(page.position == .at(5))
        #expect(!page.hasMore)
    }

    /// Pages are full, and the last one says that it is.
    @Test(arguments: 1...5)
    func pagingSeesEachOnce(_ limit: Int) throws {
        var store = MarkedStore()
        store.markGap()
        try store.publish()
        store.markGap()
        try store.publish()
        store.markGap()
        var seen: [[UInt64]] = []
        var page = store.page(limit: limit)
        seen.append(page.sequences)
        while page.hasMore, let since = page.sequences.last {
            page = store.page(since: since, limit: limit)
            seen.append(page.sequences)
        }
        #expect(seen == (limit == 1 ? [[2], [4]] : [[2, 4]]))
    }

    @Test func aNewTopicBeginsWithIt() throws {
        var store = MarkedStore()
        store.markGap()
        let recovery = try store.subscribe()
        #expect(recovery.outcome == .fresh)
        #expect(recovery.position == .at(1))
        // Whoever was here in another life of the topic is told.
        #expect(MarkedStore.words(try store.subscribe(since: .at(0)).publications) == "1!")
    }

    @Test func withoutHistory() throws {
        var store = MarkedStore(history: .none)
        let recovery = try store.subscribe()
        #expect(recovery.position == nil)
        try store.publish()
        store.markGap()
        try store.publish()
        #expect(store.told == "1 2! 3")
        #expect(try store.subscribe().sequence == 3)
        #expect(store.page().publications.isEmpty)
        #expect(try store.subscribe(since: .at(1)).outcome == .gap(after: nil, next: nil))
        let statistics = store.test.store.statistics
        #expect(statistics.historyPublications == 0)
    }

    @Test func itExpires() throws {
        var store = MarkedStore()
        try store.publish()
        store.markGap(at: 1)
        try store.publish(at: 2)
        #expect(MarkedStore.words(try store.subscribe(since: .at(1), at: 10.9).publications) == "2! 3")
        let recovery = try store.subscribe(since: .at(1), at: 11)
        #expect(recovery.outcome == .gap(after: 1, next: 3))
        #expect(MarkedStore.words(recovery.publications) == "3")
        store.test.expire(at: 13)
        let statistics = store.test.store.statistics
        #expect(statistics.historyPublications == 0)
        #expect(statistics.historyBytes == 0)
    }

    @Test func isNoPublication() throws {
        var store = try self.makeStore()
        let statistics = store.test.store.statistics
        #expect(statistics.published == 4)
        #expect(store.page().publications.map(\.id) == ["e-1", "e-2", "e-3", "e-4"])
    }
}
