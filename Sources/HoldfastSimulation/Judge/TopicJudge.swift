import HoldfastCore
import HoldfastProtocol

/// Holds what one client is told about one topic against what was published: each event once and in order, from the moment at
/// which it is subscribed, or a gap told instead.
struct TopicJudge {
    /// What has to come next.
    private enum Place: Equatable {
        /// Not subscribed yet, or a gap of unknown size.
        case anywhere
        /// Everything after this number of the ledger.
        case after(number: Int)
        /// A gap was told: everything from this offset on.
        case from(offset: UInt64)
    }

    let topic: String
    private var place = Place.anywhere
    private var epoch: String?
    private var lastOffset: UInt64?
    private var lastNumber = 0
    private(set) var messages = 0
    private(set) var gaps = 0
    /// The app wants it.
    private(set) var isWanted = true
    /// The command that has subscribed last.
    private var command = ""
    private(set) var isSubscribed = false
    /// The app has said that it leaves; what comes until that is done is nobody's.
    private var isLeaving = false

    init(topic: String) {
        self.topic = topic
    }

    typealias Failure = (promise: Violation.Promise, text: String)

    mutating func wants(_ command: String) {
        self.isWanted = true
        self.command = command
    }

    mutating func subscribed(_ event: WireEvent, ledger: Ledger) -> Failure? {
        // In another session a subscription that the app has left may come before the one that it wants.
        guard !self.isLeaving || event.id == self.command else { return nil }
        let position = event.position
        self.isLeaving = false
        guard self.isSubscribed else {
            // A fresh start: everything published from now on.
            self.isSubscribed = true
            self.epoch = position?.epoch
            self.lastOffset = position?.offset
            self.place = position.map { .after(number: Self.number(at: $0, of: self.topic, ledger)) } ?? .anywhere
            return nil
        }
        // Another session: it goes on from where the app was, or a gap follows.
        guard let epoch = position?.epoch, epoch != self.epoch else { return nil }
        if case .from(let next) = self.place, let old = self.epoch {
            let last = Position(epoch: old, offset: next - 1)
            self.place = .after(number: Self.number(at: last, of: self.topic, ledger))
        }
        self.epoch = epoch
        self.lastOffset = nil
        return event.isRecovered ? (.truth, "\(self.topic): recovered, but the epoch is new") : nil
    }

    /// The app wants no more of it.
    mutating func leaves() {
        self.left()
        self.isWanted = false
        self.isLeaving = true
        self.command = ""
    }

    /// It could not leave.
    mutating func stays() {
        guard self.isLeaving else { return }
        self.isLeaving = false
        self.isWanted = true
        self.isSubscribed = true
        self.place = .anywhere
    }

    /// It gets no more of it.
    mutating func left() {
        self.isLeaving = false
        self.refused()
    }

    /// It may not have it. What it has left before may still come.
    mutating func refused() {
        self.isSubscribed = false
        self.place = .anywhere
        self.epoch = nil
        self.lastOffset = nil
    }

    /// The number of the last publication up to a position; that of the last one before its epoch if there is none.
    private static func number(at position: Position, of topic: String, _ ledger: Ledger) -> Int {
        let entries = ledger.topics[topic] ?? []
        let known = entries.last {
            $0.position?.epoch == position.epoch && ($0.position?.offset ?? 0) <= position.offset
        }
        if let known { return known.number }
        return (entries.first { $0.position?.epoch == position.epoch }?.number).map { $0 - 1 } ?? entries.last?.number
            ?? 0
    }

    mutating func gap(after: UInt64?, next: UInt64?) -> Failure? {
        guard !self.isLeaving else { return nil }
        self.gaps += 1
        guard let next else {
            self.place = .anywhere
            return nil
        }
        if let after, let last = self.lastOffset, after != last, self.place != .anywhere {
            return (.truth, "\(self.topic): told that everything up to \(after) had come, but the last was \(last)")
        }
        if let last = self.lastOffset, next <= last {
            return (.truth, "\(self.topic): told to go on at \(next), but \(last) has come")
        }
        self.lastOffset = next - 1
        self.place = .from(offset: next)
        return nil
    }

    mutating func message(_ number: Int, offset: UInt64?, ledger: Ledger) -> Failure? {
        guard !self.isLeaving else { return nil }
        self.messages += 1
        guard self.isSubscribed else { return (.once, "\(self.topic): \(number) came without a subscription") }
        guard number > self.lastNumber else {
            return (
                number == self.lastNumber ? .once : .order, "\(self.topic): \(number) came after \(self.lastNumber)"
            )
        }
        switch self.place {
        case .anywhere: break
        case .after(let last):
            guard number == last + 1 else {
                return (.told, "\(self.topic): \(number) came after \(last), and no gap was told")
            }
        case .from(let next):
            guard let offset else { return (.truth, "\(self.topic): \(number) has no offset") }
            guard offset == next else {
                return (.told, "\(self.topic): offset \(offset) came, and \(next) was to be next")
            }
        }
        if let entry = ledger.entry(number, of: self.topic) {
            guard entry.position?.offset == offset else {
                return (.truth, "\(self.topic): \(number) has offset \(offset.map(String.init) ?? "none")")
            }
        } else {
            return (.truth, "\(self.topic): \(number) was never published")
        }
        self.lastNumber = number
        self.lastOffset = offset
        self.place = .after(number: number)
        return nil
    }

    /// All is well, and all was said.
    func settled(ledger: Ledger) -> Failure? {
        guard self.isWanted else { return nil }
        guard self.isSubscribed else { return (.alive, "\(self.topic): not subscribed") }
        guard let last = ledger.last(of: self.topic) else { return nil }
        switch self.place {
        case .after(let number) where number == last.number: return nil
        case .from(let next) where last.position.map({ $0.offset < next }) == true: return nil
        // A gap of unknown size was told, and what came after it may have been in it.
        case .anywhere: return nil
        case .after, .from: break
        }
        return (
            .told, "\(self.topic): \(last.number) was the last, but \(self.lastNumber) came last, and no gap was told"
        )
    }
}
