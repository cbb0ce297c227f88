import DequeModule
import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore

/// Messages of native clients that services were asked about a short while ago, by their ids, with the answers: a client that
/// lost its session, or its page, repeats what has no reply, and the service must not be asked twice.
///
/// A message is the same if client's identity, subscription, id and data are. Answers that nobody has given (the service could not
/// be reached) are not kept: who repeats then wants another try.
final class MessageWindow: Sendable {
    struct Key: Hashable, Sendable {
        // Of a hash with a seed of this process: nobody can find two messages with the same, and it takes little room.
        private let high: Int
        private let low: Int

        init(identity: [JSONObject.Member], subscription: String, id: JSONValue, data: JSONValue) {
            func hash(_ salt: Int) -> Int {
                var hasher = Hasher()
                hasher.combine(salt)
                for member in identity {
                    hasher.combine(ExactName(member.name))
                    hasher.combine(member.value.raw)
                }
                hasher.combine(ExactName(subscription))
                hasher.combine(id.raw)
                hasher.combine(data.raw)
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
        /// - isKept: its answer is to be remembered.
        case asked(waiting: [@Sendable (CallbackAnswer) -> Void], isKept: Bool)
        case answered(CallbackAnswer)
    }

    private struct State {
        var entries: [Key: Entry] = [:]
        var order = Deque<(key: Key, expires: NIODeadline)>()
        var repeated = 0
    }

    /// An answer larger than this is not kept, in bytes.
    static let answerBytes = 16 * 1024

    /// A shorter id cannot be unlike that of any other client, so it says nothing about repeats. In bytes.
    static let shortestID = 10

    private let limit: Int
    private let time: TimeAmount
    private let state = NIOLockedValueBox(State())

    /// - Parameters:
    ///   - limit: messages remembered; beyond it the oldest are forgotten. 0: none.
    ///   - time: how long one is remembered.
    init(limit: Int, time: TimeAmount) {
        self.limit = limit
        self.time = time
    }

    var count: Int { self.state.withLockedValue { $0.entries.count } }
    /// Messages for which a service was not asked again.
    var repeated: Int { self.state.withLockedValue { $0.repeated } }

    /// - Parameter answer: called where the message is under way, when the service has answered; on any thread.
    func enter(
        _ key: Key,
        now: NIODeadline = .now(),
        _ answer: @escaping @Sendable (CallbackAnswer) -> Void
    ) -> Entrance {
        self.state.withLockedValue { state in
            while let oldest = state.order.first, oldest.expires <= now || state.order.count > self.limit {
                state.order.removeFirst()
                self.forget(oldest.key, &state)
            }
            switch state.entries[key] {
            case .asked(let waiting, let isKept):
                state.entries[key] = .asked(waiting: waiting + [answer], isKept: isKept)
                state.repeated += 1
                return .underWay
            case .answered(let answer):
                state.repeated += 1
                return .answered(answer)
            case nil:
                guard self.limit > 0 else { return .new }
                if state.order.count == self.limit { self.forget(state.order.removeFirst().key, &state) }
                state.entries[key] = .asked(waiting: [], isKept: true)
                state.order.append((key, now + self.time))
                return .new
            }
        }
    }

    func finish(_ key: Key, _ answer: CallbackAnswer) {
        let waiting = self.state.withLockedValue { state -> [@Sendable (CallbackAnswer) -> Void] in
            guard case .asked(let waiting, let isKept) = state.entries[key] else { return [] }
            if isKept, let object = answer.object, object.bytes <= Self.answerBytes {
                state.entries[key] = .answered(.object(object.copied()))
            } else {
                state.entries[key] = nil
            }
            return waiting
        }
        for resume in waiting { resume(answer) }
    }

    /// One that is under way stays until it is answered: somebody may wait for it.
    private func forget(_ key: Key, _ state: inout State) {
        switch state.entries[key] {
        case .asked(let waiting, _): state.entries[key] = .asked(waiting: waiting, isKept: false)
        case .answered: state.entries[key] = nil
        case nil: break
        }
    }
}

extension JSONObject {
    fileprivate var bytes: Int { self.members.reduce(0) { $0 + $1.name.utf8.count + $1.value.raw.readableBytes } }
}
