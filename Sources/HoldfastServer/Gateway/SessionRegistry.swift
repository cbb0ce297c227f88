import HoldfastProtocol
import NIOConcurrencyHelpers

/// Which event loop has which session, and how many there are. Touched when sessions and transports come and go, never
/// for a delivery.
final class SessionRegistry: Sendable {
    private struct State {
        var shards: [SessionName.Handle: Int] = [:]
        var transports = 0
        var ticket: UInt64 = 0
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

    func transportOpened() { self.state.withLockedValue { $0.transports += 1 } }
    func transportClosed() { self.state.withLockedValue { $0.transports -= 1 } }
}
