import DequeModule
import NIOCore
import Synchronization

/// What happens when the app reads more slowly than messages come. Whatever is chosen, nothing is lost silently.
public struct BufferPolicy: Sendable, Equatable {
    enum Full: Sendable {
        case fail, wait, dropOldest
    }

    let full: Full
    let limit: Int

    /// The loop ends with the error `buffer_full`, and goes nowhere without the app's knowledge. The default, with 1,024.
    public static func fail(beyond limit: Int = 1024) -> BufferPolicy { BufferPolicy(full: .fail, limit: limit) }

    /// The client reads no more from the gateway until the app has caught up. This slows *all* subscriptions of the client down;
    /// what the gateway cannot keep meanwhile is recovered by position. While the app waits for a reply, four times as much is
    /// taken before the loop ends with `buffer_full`, since the reply may stand behind.
    public static func wait(beyond limit: Int = 1024) -> BufferPolicy { BufferPolicy(full: .wait, limit: limit) }

    /// The oldest message goes, and the next one tells so as ``HoldfastClient/Message/gap``. For screens that show what is, not what was.
    public static func dropOldest(keeping limit: Int) -> BufferPolicy { BufferPolicy(full: .dropOldest, limit: limit) }

    private init(full: Full, limit: Int) {
        precondition(limit > 0, "A buffer holds at least 1 element.")
        self.full = full
        self.limit = limit
    }
}

/// The bounded buffer between the client and one loop of the app.
final class Inbox<Element: Sendable>: Sendable {
    typealias Reader = CheckedContinuation<Element?, any Error>

    private struct State {
        var buffer = Deque<Element>()
        var readers: [(id: UInt64, continuation: Reader)] = []
        var lastReader: UInt64 = 0
        /// The first of those that were dropped, until an element has been told of it.
        var dropped: Element?
        /// Comes behind what is in the buffer.
        var end: Result<Void, HoldfastError>?
    }

    /// How the oldest are dropped.
    struct Dropping: Sendable {
        /// It may go first.
        var isMinor: @Sendable (Element) -> Bool = { _ in false }
        /// - Returns: `next`, which tells of what was dropped before it; `nil` if it cannot.
        var carryOver: @Sendable (_ dropped: Element, _ next: Element) -> Element? = { $1 }
    }

    enum Offer {
        case taken, full
    }

    private let state = Mutex(State())
    private let policy: BufferPolicy
    private let name: String
    private let dropping: Dropping
    /// There is room again.
    private let onRoom: @Sendable () -> Void

    init(
        _ name: String,
        _ policy: BufferPolicy,
        dropping: Dropping = Dropping(),
        onRoom: @escaping @Sendable () -> Void = {}
    ) {
        self.name = name
        self.policy = policy
        self.dropping = dropping
        self.onRoom = onRoom
    }

    /// - Parameter mustTake: there is no time to wait for room.
    /// - Returns: ``Offer/full`` if it was not taken and is to be offered again.
    func offer(_ element: Element, mustTake: Bool) -> Offer {
        let (reader, told, offer) = self.state.withLock { state -> (Reader?, Element, Offer) in
            guard state.end == nil else { return (nil, element, .taken) }
            if !state.readers.isEmpty {
                return (state.readers.removeFirst().continuation, self.telling(element, &state), .taken)
            }
            return (nil, element, self.put(element, into: &state, mustTake: mustTake))
        }
        reader?.resume(returning: told)
        return offer
    }

    private func put(_ element: Element, into state: inout State, mustTake: Bool) -> Offer {
        let limit = self.policy.limit
        if state.buffer.count >= limit {
            switch self.policy.full {
            case .dropOldest:
                state.buffer.append(self.telling(element, &state))
                if let minor = state.buffer.firstIndex(where: self.dropping.isMinor) {
                    state.buffer.remove(at: minor)
                    return .taken
                }
                let dropped = state.buffer.removeFirst()
                if let next = state.buffer.first, let told = self.dropping.carryOver(dropped, next) {
                    state.buffer[state.buffer.startIndex] = told
                } else if state.dropped == nil {
                    state.dropped = dropped
                }
                return .taken
            case .wait where !mustTake:
                return .full
            case .wait where state.buffer.count < 4 * limit:
                break
            case .wait, .fail:
                let most = state.buffer.count
                let text = "A loop over \(self.name) fell behind by more than \(most) messages."
                state.end = .failure(HoldfastError(code: "buffer_full", text: text, limit: most, actual: most + 1))
                return .taken
            }
        }
        state.buffer.append(self.telling(element, &state))
        return .taken
    }

    /// The element, with word of what was dropped before it, if nothing else could tell.
    private func telling(_ element: Element, _ state: inout State) -> Element {
        guard let dropped = state.dropped, let told = self.dropping.carryOver(dropped, element) else { return element }
        state.dropped = nil
        return told
    }

    /// Nothing more will come.
    func finish(_ end: Result<Void, HoldfastError>) {
        let readers = self.state.withLock { state in
            if state.end == nil { state.end = end }
            defer { state.readers = [] }
            return state.readers
        }
        for reader in readers { reader.continuation.resume(with: end.map { nil }.mapError { $0 as any Error }) }
        self.onRoom()
    }

    /// - Returns: `nil` at the end, and where the task is cancelled.
    func next() async throws -> Element? {
        let id = self.state.withLock { state in
            state.lastReader += 1
            return state.lastReader
        }
        let element = try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: Reader) in
                let ready: Result<Element?, any Error>? = self.state.withLock { state in
                    if let element = state.buffer.popFirst() { return .success(element) }
                    if let end = state.end { return end.map { nil }.mapError { $0 as any Error } }
                    if Task.isCancelled { return .success(nil) }
                    state.readers.append((id, continuation))
                    return nil
                }
                if let ready { continuation.resume(with: ready) }
            }
        } onCancel: {
            let reader = self.state.withLock { state -> Reader? in
                guard let index = state.readers.firstIndex(where: { $0.id == id }) else { return nil }
                return state.readers.remove(at: index).continuation
            }
            reader?.resume(returning: nil)
        }
        if self.policy.full == .wait { self.onRoom() }
        return element
    }
}

/// The end of an ``Inbox`` that the app holds. When it lets go, nothing is kept for it any more.
final class InboxReader<Element: Sendable>: Sendable {
    let inbox: Inbox<Element>
    private let onEnd: @Sendable () -> Void

    init(_ inbox: Inbox<Element>, onEnd: @escaping @Sendable () -> Void) {
        self.inbox = inbox
        self.onEnd = onEnd
    }

    deinit {
        // It may be waited for.
        self.inbox.finish(.success(()))
        self.onEnd()
    }
}
