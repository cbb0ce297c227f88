import DequeModule
import HoldfastProtocol
import NIOConcurrencyHelpers

/// Which event loop has which session, and how many there are. Touched when sessions and transports come and go, never
/// for a delivery.
final class SessionRegistry: Sendable {
    private struct State {
        var shards: [SessionName.Handle: Int] = [:]
        var transports = 0
        var windingUp = 0
        var ticket: UInt64 = 0
        var lastWords = Deque<LastWord>()
    }

    private let state = NIOLockedValueBox(State())

    var sessionCount: Int { self.state.withLockedValue { $0.shards.count } }
    var transportCount: Int { self.state.withLockedValue { $0.transports } }

    /// - Returns: `false` if the limit is reached.
    func insert(_ handle: SessionName.Handle, shard: Int, limit: Int) -> Bool {
        self.state.withLockedValue { state in
            guard state.shards.count < limit else { return false }
            state.shards[handle] = shard
            return true
        }
    }

    func shard(of handle: SessionName.Handle) -> Int? { self.state.withLockedValue { $0.shards[handle] } }

    func move(_ handle: SessionName.Handle, to shard: Int) {
        self.state.withLockedValue { $0.shards[handle] = shard }
    }

    func remove(_ handle: SessionName.Handle) {
        self.state.withLockedValue { $0.shards[handle] = nil }
    }

    /// A number higher than all before.
    func nextTicket() -> UInt64 {
        self.state.withLockedValue { state in
            state.ticket += 1
            return state.ticket
        }
    }

    /// Keeps why a session ended for a poll that comes too late to be told. Beyond `limit` the oldest are forgotten.
    func remember(_ word: LastWord, limit: Int) {
        self.state.withLockedValue { state in
            while state.lastWords.count >= max(1, limit) { state.lastWords.removeFirst() }
            state.lastWords.append(word)
        }
    }

    /// Told once.
    func lastWord(of name: SessionName) -> LastWord? {
        self.state.withLockedValue { state in
            guard let index = state.lastWords.lastIndex(where: { $0.name == name }) else { return nil }
            return state.lastWords.remove(at: index)
        }
    }

    /// Sessions that are over, but have work under way.
    var windingUpCount: Int { self.state.withLockedValue { $0.windingUp } }

    func windUpBegins() { self.state.withLockedValue { $0.windingUp += 1 } }
    func windUpEnds() { self.state.withLockedValue { $0.windingUp -= 1 } }

    func transportOpened() { self.state.withLockedValue { $0.transports += 1 } }
    func transportClosed() { self.state.withLockedValue { $0.transports -= 1 } }
}
