import HoldfastCore
import HoldfastProtocol
import NIOCore

/// What carries a session's events to its client, and tells the session when it no longer can.
///
/// Belongs to one event loop, which is its session's too. Subclasses know how events go over the wire.
class SessionTransport: LoopTimer {
    enum Kind: String, CaseIterable {
        case websocket, stream, poll
    }

    /// Most bytes handed to a channel at once, so that a slow peer's share of copied buffers stays small.
    static let writeBytes = 128 * 1024

    let shard: Shard
    let kind: Kind
    /// Address of the peer, for people.
    let remote: String
    /// `nil` on a WebSocket until the first event decides the dialect, and once another transport carries the session.
    final var session: Session?
    /// Whether ``write(_:)`` may be called; kept here because every flush asks.
    final var isWritable: Bool

    init(_ kind: Kind, shard: Shard, remote: String, isWritable: Bool) {
        self.kind = kind
        self.shard = shard
        self.remote = remote
        self.isWritable = isWritable
    }

    /// The first `count` of `events`, at least one, in this transport's form.
    func merged(_ events: [EncodedEvent], first count: Int, cache: inout MergeCache) -> ByteBuffer { ByteBuffer() }

    /// Writes what ``merged(_:first:cache:)`` has made, and flushes.
    func write(_ merged: ByteBuffer) {}

    /// Tells the client why, as well as the transport can, and carries nothing any more.
    func close(_ code: CloseCode, reason: String) {}

    /// Lets go without a word.
    func drop() {}

    /// The transport carries nothing any more: its session and its loop let go of it.
    /// - Parameter label: for the metrics, one of a bounded set of words.
    final func leave(reason: String, label: String) {
        self.session?.transportClosed(self, reason: reason)
        self.session = nil
        self.shard.remove(self, reason: label)
    }

    /// What the client says from now on is not listened to: its session is with another transport.
    func pause() {}
}
