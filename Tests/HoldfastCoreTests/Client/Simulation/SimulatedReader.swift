import HoldfastCore
import HoldfastProtocol

/// What the app has seen of one subscription, checked against all that was published.
struct SimulatedReader {
    private let topic: SimulatedServer.Topic
    /// Index in `topic.all` of what has to come next; `nil`: not known before the first message.
    private var next: Int?
    private var epoch: String?

    init(_ topic: SimulatedServer.Topic) {
        self.topic = topic
    }

    mutating func subscribed(_ event: WireEvent, since: Position?) {
        self.epoch = event.position?.epoch
        guard since == nil, self.next == nil, let position = event.position else { return }
        let first = self.topic.all.firstIndex { $0.epoch == position.epoch && $0.offset > position.offset }
        self.next = first ?? self.topic.all.count
    }

    mutating func message(_ event: WireEvent) throws {
        guard let index = event["data"]?.unsignedInteger.map(Int.init) else {
            throw BrokenPromise("a message without data")
        }
        // A topic without history starts anywhere.
        let expected = self.next ?? index
        guard index == expected else {
            throw BrokenPromise(
                "\(self.topic.name): expected message \(expected), got \(index) of \(self.topic.all.count)")
        }
        self.next = index + 1
    }

    mutating func gap(_ gap: SimulatedServer.Gap, of server: SimulatedServer) throws {
        let name = self.topic.name
        guard self.topic.isStored else {
            guard gap.after == nil, gap.next == nil else {
                throw BrokenPromise("\(name): a gap with positions in a topic without history")
            }
            self.next = nil
            return
        }
        guard server.gaps.contains(gap) else { throw BrokenPromise("\(name): a false gap: \(gap)") }
        if let after = gap.after {
            let from = self.next.flatMap { $0 < self.topic.all.count ? self.topic.all[$0].offset : nil }
            guard from == after + 1 else {
                throw BrokenPromise("\(name): a gap after \(after), but \(String(describing: from)) was next")
            }
        }
        self.next =
            self.topic.all.firstIndex { $0.epoch == self.epoch && $0.offset == gap.next } ?? self.topic.all.count
    }

    var isComplete: Bool { self.next == nil || self.next == self.topic.all.count }
}

/// A history in which the client did not keep its word.
struct BrokenPromise: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}
