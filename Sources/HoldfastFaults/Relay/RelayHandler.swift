import NIOCore

/// Which of the two sockets of a relayed connection.
enum Side: Equatable, Sendable {
    case client
    case server
}

/// One socket of a ``Relay``: turns channel events into facts for the relay and does what it is told.
///
/// Loop-bound, like everything of one proxy.
final class RelayHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let relay: Relay
    private let side: Side
    private var context: ChannelHandlerContext?

    /// NIO asked for bytes while the other side could not take any.
    private var isReadPending = false
    private var hasUnflushedWrites = false
    private var hasSeenFinish = false
    private var isOutputClosed = false
    private var isClosedByUs = false
    private var readError: (any Error)?

    init(relay: Relay, side: Side) {
        self.relay = relay
        self.side = side
    }

    var isWritable: Bool { self.context?.channel.isWritable ?? false }
    var remoteAddress: SocketAddress? { self.context?.channel.remoteAddress }

    // MARK: Facts

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
    }

    func channelActive(context: ChannelHandlerContext) {
        self.relay.opened(self.side, self)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // Also without having been asked: NIO empties the receive buffer as soon as a FIN is behind it. Its size is the
        // bound of what may come (FaultProxy.Configuration.receiveBufferSize).
        self.relay.received(self.unwrapInboundIn(data), from: self.side)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        self.relay.readComplete(from: self.side)
        context.fireChannelReadComplete()
    }

    func read(context: ChannelHandlerContext) {
        if self.relay.mayRead(from: self.side) {
            context.read()
        } else {
            self.isReadPending = true
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        self.relay.writabilityChanged(of: self.side)
        context.fireChannelWritabilityChanged()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent {
            self.hasSeenFinish = true
            self.relay.ended(.finish, from: self.side)
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // The channel closes itself after an error of the socket; what it was matters only to tell a RST from a FIN.
        self.readError = error
    }

    func channelInactive(context: ChannelHandlerContext) {
        if !self.isClosedByUs {
            // NIO closes the channel at once, without `inputClosed`, when the FIN comes after we have closed the
            // output.
            let isFinish = self.isOutputClosed && self.readError == nil
            if !isFinish {
                self.relay.ended(.reset, from: self.side)
            } else if !self.hasSeenFinish {
                self.relay.ended(.finish, from: self.side)
            }
        }
        self.relay.closed(self.side)
        context.fireChannelInactive()
    }

    // MARK: Orders

    func write(_ bytes: ByteBuffer) {
        guard let context = self.context else { return }
        self.hasUnflushedWrites = true
        context.write(self.wrapOutboundOut(bytes), promise: nil)
    }

    func flush() {
        guard self.hasUnflushedWrites, let context = self.context else { return }
        self.hasUnflushedWrites = false
        context.flush()
    }

    func resumeReading() {
        guard self.isReadPending, let context = self.context, self.relay.mayRead(from: self.side) else { return }
        self.isReadPending = false
        context.read()
    }

    /// Passes on a FIN behind all that was written before.
    func closeOutput() {
        guard !self.isOutputClosed, let context = self.context else { return }
        self.isOutputClosed = true
        self.hasUnflushedWrites = false
        // Not a plain close(mode: .output): if the input is closed already, NIO makes a full close of it, and that
        // throws away what is still waiting to be written.
        let lastWrite = context.eventLoop.makePromise(of: Void.self)
        lastWrite.futureResult.assumeIsolated().whenSuccess {
            self.context?.close(mode: .output, promise: nil)
        }
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer()), promise: lastWrite)
    }

    /// Passes on a RST.
    func reset() {
        guard !self.isClosedByUs, let context = self.context else { return }
        // A socket that lingers for no time at all is closed with a RST.
        if let options = context.channel as? any SocketOptionProvider {
            options.unsafeSetSocketOption(level: .socket, name: .so_linger, value: Linger(isOn: 1, time: 0)).whenFailure
            { _ in }
        }
        self.close()
    }

    func close() {
        guard !self.isClosedByUs, let context = self.context else { return }
        self.isClosedByUs = true
        context.close(promise: nil)
    }
}

/// `struct linger` of POSIX (two ints), by hand: NIO's own alias of it is of a module that a package cannot import.
private struct Linger {
    let isOn: CInt
    let time: CInt
}
