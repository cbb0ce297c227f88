import DequeModule
import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore

/// Messages of native clients that services were asked about a short while ago, by their ids, with the answers: a client that
/// lost its session, or its page, repeats what has no reply, and the service must not be asked twice.
///
/// A message is the same if its id is, and all that the service is told: so nobody is given an answer that was made for another. Answers that nobody has given (the service could not
/// be reached) are not kept: who repeats then wants another try.
final class MessageWindow: Sendable {
    struct Key: Hashable, Sendable {
        // Of a hash with a seed of this process: nobody can find two messages with the same, and it takes little room.
        private let high: Int
        private let low: Int

        /// - Parameter members: what the service is told, but for the id: who the client is, subscription, fields and data.
        init(id: JSONValue, _ members: [JSONObject.Member]) {
            func hash(_ salt: Int) -> Int {
                var hasher = Hasher()
                hasher.combine(salt)
                hasher.combine(id.raw)
                for member in members {
                    hasher.combine(ExactName(member.name))
                    hasher.combine(member.value.raw.readableBytes)
                    hasher.combine(member.value.raw)
                }
                return hasher.finalize()
            }
            self.high = hash(0)
            self.low = hash(1)
        }
    }

    enum Entrance: Sendable {
        /// Ask the service, and say ``MessageWindow/finish(_:_:)``.
        case new
        case answered(CallbackAnswer)
        /// The service has been asked and has not answered yet. The function that was handed in will be called.
        case underWay
    }

    private enum Entry {
        case asked(waiting: [@Sendable (CallbackAnswer) -> Void])
        case answered(CallbackAnswer)
    }

    private struct State {
        var entries: [Key: Entry] = [:]
        /// Of those that are answered. Those under way are bounded by the callbacks.
        var order = Deque<(key: Key, bytes: Int, expires: NIODeadline)>()
        /// Of the answers.
        var bytes = 0
        var repeated = 0

        mutating func forgetOldest() {
            let oldest = self.order.removeFirst()
            self.entries[oldest.key] = nil
            self.bytes -= oldest.bytes
        }
    }

    /// An answer larger than this is not kept, in bytes.
    static let answerBytes = 16 * 1024

    /// A shorter id cannot be unlike that of any other client, so it says nothing about repeats. In bytes.
    static let shortestID = 10

    private let limit: Int
    private let bytes: Int
    private let time: TimeAmount
    private let state = NIOLockedValueBox(State())

    /// - Parameters:
    ///   - limit: messages remembered; beyond it the oldest are forgotten. 0: none.
    ///   - bytes: of their answers; beyond it the oldest are forgotten, too.
    ///   - time: how long one is remembered.
    init(limit: Int, bytes: Int = 64 << 20, time: TimeAmount) {
        self.limit = limit
        self.bytes = bytes
        self.time = time
    }

    var count: Int { self.state.withLockedValue { $0.entries.count } }
    /// Messages for which a service was not asked again.
    var repeated: Int { self.state.withLockedValue { $0.repeated } }

    /// - Parameter answer: called where the message is under way, when the service has answered; on any thread.
    func enter(
        _ key: Key,
        now: NIODeadline,
        _ answer: @escaping @Sendable (CallbackAnswer) -> Void
    ) -> Entrance {
        self.state.withLockedValue { state in
            while let oldest = state.order.first, oldest.expires <= now { state.forgetOldest() }
            switch state.entries[key] {
            case .asked(let waiting):
                state.entries[key] = .asked(waiting: waiting + [answer])
                state.repeated += 1
                return .underWay
            case .answered(let answer):
                state.repeated += 1
                return .answered(answer)
            case nil:
                if self.limit > 0 { state.entries[key] = .asked(waiting: []) }
                return .new
            }
        }
    }

    func finish(_ key: Key, _ answer: CallbackAnswer, now: NIODeadline) {
        let waiting = self.state.withLockedValue { state -> [@Sendable (CallbackAnswer) -> Void] in
            guard case .asked(let waiting) = state.entries[key] else { return [] }
            guard let object = answer.object, object.bytes <= Self.answerBytes, object.bytes <= self.bytes else {
                state.entries[key] = nil
                return waiting
            }
            state.entries[key] = .answered(.object(object.copied()))
            state.order.append((key, object.bytes, now + self.time))
            state.bytes += object.bytes
            while state.order.count > self.limit || state.bytes > self.bytes { state.forgetOldest() }
            return waiting
        }
        for resume in waiting { resume(answer) }
    }
}

extension JSONObject {
    fileprivate var bytes: Int { self.members.reduce(0) { $0 + $1.name.utf8.count + $1.value.raw.readableBytes } }
}
