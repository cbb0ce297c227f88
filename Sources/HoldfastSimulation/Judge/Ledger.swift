import HoldfastProtocol

/// What was published, which is what clients are measured by.
final class Ledger {
    struct Entry {
        let number: Int
        let position: Position?
    }

    private(set) var topics: [String: [Entry]] = [:]

    func nextNumber(of topic: String) -> Int { (self.topics[topic]?.last?.number ?? 0) + 1 }

    func publish(_ topic: String, _ number: Int, _ position: Position?) {
        self.topics[topic, default: []].append(Entry(number: number, position: position))
    }

    /// Numbers are those of a topic, from 1 on.
    func entry(_ number: Int, of topic: String) -> Entry? {
        guard let entries = self.topics[topic], entries.indices.contains(number - 1) else { return nil }
        return entries[number - 1]
    }

    func last(of topic: String) -> Entry? { self.topics[topic]?.last }
}
