import HoldfastProtocol
import NIOCore
import Testing

@testable import HoldfastBroker

@Suite struct HistoryPageTests {
    /// Offsets 1...7 were published, 3...7 are kept.
    private func makeStore() throws -> TestStore {
        var store = TestStore(history: HistorySettings(size: 5, ttl: 10))
        for number in 1...7 { try store.publish("s.t", "\(number)") }
        return store
    }

    @Test(
        arguments: [
            (nil, 2, [3, 4], true), (nil, 5, [3, 4, 5, 6, 7], false), (nil, 100, [3, 4, 5, 6, 7], false),
            (0, 2, [3, 4], true), (2, 2, [3, 4], true),
            (3, 2, [4, 5], true), (4, 3, [5, 6, 7], false), (4, 2, [5, 6], true), (6, 1, [7], false), (7, 5, [], false),
            (8, 5, [], false),
            (.max, 5, [], false),
        ] as [(UInt64?, Int, [UInt64], Bool)])
    func pages(_ since: UInt64?, _ limit: Int, _ sequences: [UInt64], _ hasMore: Bool) throws {
        var store = try self.makeStore()
        let page = store.page(since: since, limit: limit)
        #expect(page.sequences == sequences)
        #expect(page.hasMore == hasMore)
        #expect(page.position == .at(7))
        #expect(page.publications.map { String(buffer: $0.data) } == sequences.map { "\($0)" })
        #expect(page.publications.allSatisfy { $0.position == .at($0.sequence) })
    }

    @Test(arguments: 1...6)
    func pagingSeesEachOnce(_ limit: Int) throws {
        var store = try self.makeStore()
        var seen: [UInt64] = []
        var since: UInt64?
        var page = store.page(since: since, limit: limit)
        while !page.publications.isEmpty {
            seen += page.sequences
            since = page.sequences.last
            guard page.hasMore else { break }
            page = store.page(since: since, limit: limit)
        }
        #expect(seen == [3, 4, 5, 6, 7])
    }

    @Test func unknownTopics() throws {
        var store = try self.makeStore()
        let page = store.page("s.unknown")
        #expect(page.publications.isEmpty)
        #expect(!page.hasMore)
        #expect(page.position == .at(0))
        // Asking creates no topic.
        #expect(store.store.statistics.topics == 1)
    }
}
