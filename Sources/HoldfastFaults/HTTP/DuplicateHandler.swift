import NIOCore

/// Says a request once more to the server, and throws the answer away.
final class DuplicateHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let request: ByteBuffer
    private let isHEAD: Bool
    private let lifetime: TimeAmount
    private var framer = HTTPFramer(role: .responses)
    private var isAnswering = false

    init(request: ByteBuffer, isHEAD: Bool, lifetime: TimeAmount) {
        self.request = request
        self.isHEAD = isHEAD
        self.lifetime = lifetime
    }

    func channelActive(context: ChannelHandlerContext) {
        context.writeAndFlush(self.wrapOutboundOut(self.request), promise: nil)
        // The server need not answer, or may never end.
        let limit = context.eventLoop.assumeIsolated().scheduleTask(in: self.lifetime) { context.close(promise: nil) }
        context.channel.closeFuture.assumeIsolated().whenComplete { _ in limit.cancel() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = self.unwrapInboundIn(data)
        while let piece = self.framer.next(&bytes, hasNoBody: self.isHEAD) {
            if let head = piece.head { self.isAnswering = !head.isInterim }
            if piece.isTunnel || (piece.endsMessage && self.isAnswering) {
                return context.close(promise: nil)
            }
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent { context.close(promise: nil) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
