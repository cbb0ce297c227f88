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

    func last(of topic: String) -> Entry? { self.topics[topic]?.last }
}
