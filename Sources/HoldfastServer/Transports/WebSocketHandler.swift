import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// What a WebSocket's bytes go over. Belongs to the transport's event loop.
package protocol WebSocketWire: AnyObject {
    /// Writes whole frames, and flushes.
    func write(_ frames: ByteBuffer)

    /// - Parameter completion: called once, on the loop, when the frames have been handed to the network or never will be.
    func write(_ frames: ByteBuffer, completion: @escaping () -> Void)

    /// Whether anything is read. What was read before may still come.
    func setReading(_ isOn: Bool)

    /// Says FIN behind all that was written.
    func closeOutput()

    func close()
}

extension ChannelHandlerContext: WebSocketWire {
    package func write(_ frames: ByteBuffer) { self.writeAndFlush(NIOAny(frames), promise: nil) }

    package func write(_ frames: ByteBuffer, completion: @escaping () -> Void) {
        let bound = NIOLoopBound(completion, eventLoop: self.eventLoop)
        self.writeAndFlush(NIOAny(frames)).whenComplete { _ in bound.value() }
    }

    package func setReading(_ isOn: Bool) {
        self.channel.setOption(.autoRead, value: isOn).whenFailure { _ in }
    }

    package func closeOutput() { self.close(mode: .output, promise: nil) }

    package func close() { self.close(promise: nil) }
}

/// The only handler in a WebSocket's pipeline once the handshake is done (besides TLS): hands on what happens.
final class WebSocketHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let transport: WebSocketTransport

    init(_ transport: WebSocketTransport) {
        self.transport = transport
    }

    func handlerAdded(context: ChannelHandlerContext) { self.transport.begin(on: context) }

    func handlerRemoved(context: ChannelHandlerContext) { self.transport.wireGone() }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.transport.received(self.unwrapInboundIn(data))
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.transport.lost("connection lost without a Close frame")
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // The peer's FIN: a WebSocket cannot be used in one direction only.
        if let event = event as? ChannelEvent, event == .inputClosed {
            self.transport.lost("connection closed by the peer without a Close frame")
            context.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // TCP_USER_TIMEOUT, see HTTPFront.
        let isUnheard = (error as? IOError)?.errnoCode == ETIMEDOUT
        self.transport.lost("connection lost: \(isUnheard ? "the peer acknowledges nothing any more" : "\(error)")")
        context.close(promise: nil)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        self.transport.writabilityChanged(context.channel.isWritable)
    }
}
