import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore

/// Finds a session again for an answer that took time: it may have moved to another event loop meanwhile, or be over.
final class SessionHome: Sendable {
    private let handle: SessionName.Handle
    private let shard: NIOLockedValueBox<Shard?>

    init(_ handle: SessionName.Handle, _ shard: Shard) {
        self.handle = handle
        self.shard = NIOLockedValueBox(shard)
    }

    func move(to shard: Shard) { self.shard.withLockedValue { $0 = shard } }

    /// The session is over and all its work done.
    func end() { self.shard.withLockedValue { $0 = nil } }

    /// Runs `body` on the session's loop; never, if the session is over.
    func run(_ body: @escaping @Sendable (Session) -> Void) {
        guard let shard = self.shard.withLockedValue({ $0 }) else { return }
        shard.loop.execute {
            if let session = shard.anySession(self.handle) { return body(session) }
            // Between two loops.
            shard.loop.scheduleTask(in: .milliseconds(1)) { self.run(body) }
        }
    }
}
