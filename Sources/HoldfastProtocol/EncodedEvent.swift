import NIOCore

/// One event as it goes over the wire, encoded once and shared by every session that gets it.
///
/// Nothing of it belongs to a session (events are counted, not numbered), so a publication needs one of these per
/// dialect, however many subscribers it has.
public final class EncodedEvent: Sendable {
    /// A whole WebSocket text frame, ready to be written.
    public let webSocketFrame: ByteBuffer
    /// Whether the event counts (protocol.md, Counting). The others are written once and never repeated.
    public let isCounted: Bool
    private let headerBytes: Int

    /// - Parameter json: the event as JSON text.
    public init(_ json: ByteBuffer, isCounted: Bool) {
        let frame = WebSocketFrame.unmasked(.text, json)
        self.webSocketFrame = frame
        self.headerBytes = frame.readableBytes - json.readableBytes
        self.isCounted = isCounted
    }

    /// The event as JSON text, for transports that have their own framing.
    public var json: ByteBuffer {
        // The frame always holds its own header.
        self.webSocketFrame.getSlice(
            at: self.webSocketFrame.readerIndex + self.headerBytes,
            length: self.webSocketFrame.readableBytes - self.headerBytes
        ) ?? ByteBuffer()
    }

    /// Bytes that the event takes on a WebSocket. Limits of queues count these.
    public var byteCount: Int { self.webSocketFrame.readableBytes }
}
