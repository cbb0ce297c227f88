import DequeModule
import HoldfastProtocol
import NIOCore

/// One topic's place, history and the shards that want it.
///
/// Only touched under the lock of ``MemoryBroker``, hence the unchecked conformance; a class, because histories are
/// changed in place from several indexes.
final class MemoryTopic: @unchecked Sendable {
    let name: String
    var sequence: UInt64
    private var kept = Deque<Publication>()
    private(set) var keptBytes = 0
    var interest: [Bool]
    /// Since when the topic has had neither history nor subscribers, in microseconds, if it stands in the list of idle ones.
    var idleSince: Int64?

    init(name: String, sequence: UInt64, shards: Int) {
        self.name = name
        self.sequence = sequence
        self.interest = Array(repeating: false, count: shards)
    }

    var isInUse: Bool { !self.kept.isEmpty || self.interest.contains(true) }

    /// Sequence of the oldest publication that is kept, or of the next one to come.
    var firstKept: UInt64 { self.kept.first?.sequence ?? self.sequence + 1 }

    func append(_ publication: Publication) {
        self.kept.append(publication)
        self.keptBytes += self.cost(of: publication)
    }

    func removeFirst() -> Publication? {
        guard let publication = self.kept.popFirst() else { return nil }
        self.keptBytes -= self.cost(of: publication)
        return publication
    }

    /// Whether the oldest publication has to go.
    func isOver(_ history: HistorySettings) -> Bool {
        self.kept.count > history.size || self.kept.count > 1 && self.keptBytes > history.bytes
    }

    func publications(after sequence: UInt64, limit: Int) -> [Publication] {
        let skipped = sequence < self.firstKept ? 0 : Int(min(sequence - self.firstKept + 1, UInt64(self.kept.count)))
        return Array(self.kept.dropFirst(skipped).prefix(limit))
    }

    /// Bytes that the limit over all histories counts for one publication: its payload and what surrounds it in memory.
    func cost(of publication: Publication) -> Int { publication.data.readableBytes + 256 }
}
