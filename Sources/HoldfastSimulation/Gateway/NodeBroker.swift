import HoldfastBroker
import HoldfastProtocol
import NIOCore

/// A model of a durable broker that several nodes share: the logic is that of ``MemoryBroker``, which lives on when a node does
/// not. Each node has a part of the shards.
///
/// `@unchecked Sendable`: a simulation has one thread.
final class SharedBroker: @unchecked Sendable {
    let store: MemoryBroker
    private var outlets: [BrokerOutlet?]
    private let shardsPerNode: Int
    fileprivate var interest: [Set<String>]

    init(_ store: MemoryBroker, nodes: Int, shardsPerNode: Int) {
        self.store = store
        self.outlets = Array(repeating: nil, count: nodes)
        self.shardsPerNode = shardsPerNode
        self.interest = Array(repeating: [], count: nodes * shardsPerNode)
        store.start(
            BrokerOutlet(shards: nodes * shardsPerNode) { [unowned self] publication, shard in
                self.outlets[shard / shardsPerNode]?.sink(publication, shard % shardsPerNode)
            })
    }

    func start(_ node: Int, _ outlet: BrokerOutlet) { self.outlets[node] = outlet }

    /// The node is gone, and with it what it was subscribed to.
    func forget(_ node: Int) {
        self.outlets[node] = nil
        for shard in self.shards(of: node) {
            for name in self.interest[shard].sorted() {
                self.store.unsubscribe(name, shard: shard, mayReturn: true)
            }
            self.interest[shard] = []
        }
    }

    private func shards(of node: Int) -> Range<Int> { node * self.shardsPerNode..<(node + 1) * self.shardsPerNode }

    fileprivate func shard(_ shard: Int, of node: Int) -> Int { node * self.shardsPerNode + shard }
}

/// One node's view of a ``SharedBroker``.
final class NodeBroker: Broker, @unchecked Sendable {
    private let shared: SharedBroker
    private let node: Int

    init(_ shared: SharedBroker, node: Int) {
        self.shared = shared
        self.node = node
    }

    func start(_ outlet: BrokerOutlet) { self.shared.start(self.node, outlet) }

    func publish(_ draft: PublicationDraft, history: HistorySettings) async throws -> PublishReceipt {
        try self.shared.store.publishNow(draft, history: history)
    }

    func subscribe(
        _ subscription: String,
        shard: Int,
        since: Position?,
        history: HistorySettings,
        completion: @escaping @Sendable (Result<Recovery, BrokerError>) -> Void
    ) {
        let shard = self.shared.shard(shard, of: self.node)
        self.shared.interest[shard].insert(subscription)
        self.shared.store.subscribe(
            subscription, shard: shard, since: since, history: history, completion: completion)
    }

    func extend(_ subscription: String, to shard: Int) throws(BrokerError) -> UInt64 {
        let shard = self.shared.shard(shard, of: self.node)
        self.shared.interest[shard].insert(subscription)
        return try self.shared.store.extend(subscription, to: shard)
    }

    func unsubscribe(_ subscription: String, shard: Int, mayReturn: Bool) {
        let shard = self.shared.shard(shard, of: self.node)
        self.shared.interest[shard].remove(subscription)
        self.shared.store.unsubscribe(subscription, shard: shard, mayReturn: mayReturn)
    }

    func history(_ subscription: String, since: UInt64?, limit: Int) async throws -> HistoryPage {
        try await self.shared.store.history(subscription, since: since, limit: limit)
    }

    func expire() { self.shared.store.expire() }

    var isReady: Bool { true }
    var statistics: BrokerStatistics { self.shared.store.statistics }
}
