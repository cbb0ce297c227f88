import NIOCore
import NIOPosix

#if canImport(Darwin)
import Darwin
#elseif canImport(Musl)
import Musl
#else
import Glibc
#endif

/// The proxy's port: open, or closed and kept, so that it can be opened again. Loop-bound.
final class ListeningPort {
    private let core: ProxyCore
    private var listener: (any Channel)?
    /// Bound and not listening: connecting to it is refused by the kernel, and nobody else gets the port.
    private var keeper: CInt?
    private(set) var address: SocketAddress?
    private var lastChange: EventLoopFuture<Void>?
    private var isShutDown = false

    init(core: ProxyCore) {
        self.core = core
    }

    func open() -> EventLoopFuture<Void> {
        self.afterTheLast { $0.openNow() }
    }

    /// New connections are refused from now on; those that are go on.
    func refuse() -> EventLoopFuture<Void> {
        self.afterTheLast { $0.closeNow() }
    }

    func shutdown() -> EventLoopFuture<Void> {
        self.afterTheLast {
            $0.isShutDown = true
            return $0.closeNow()
        }
    }

    /// Opening and closing take turns of the loop: two people who want different things must not meet.
    private func afterTheLast(_ change: @escaping (ListeningPort) -> EventLoopFuture<Void>) -> EventLoopFuture<Void> {
        let last = self.lastChange ?? self.core.loop.makeSucceededVoidFuture()
        let change = last.assumeIsolated().flatMapError { _ in self.core.loop.makeSucceededVoidFuture() }
            .flatMap { change(self) }.nonisolated()
        self.lastChange = change
        return change
    }

    private func openNow() -> EventLoopFuture<Void> {
        guard self.listener == nil, !self.isShutDown else { return self.core.loop.makeSucceededVoidFuture() }
        let configuration = self.core.configuration
        self.releaseKeeper()
        let listening =
            if let address = self.address {
                self.bootstrap.bind(to: address)
            } else {
                self.bootstrap.bind(host: configuration.listenHost, port: configuration.listenPort)
            }
        return listening.assumeIsolated().map { channel in
            self.listener = channel
            self.address = channel.localAddress
        }.nonisolated()
    }

    private func closeNow() -> EventLoopFuture<Void> {
        self.releaseKeeper()
        guard let listener = self.listener else {
            self.keep()
            return self.core.loop.makeSucceededVoidFuture()
        }
        self.listener = nil
        return listener.close().assumeIsolated().map { self.keep() }.nonisolated()
    }

    // MARK: The port while it is closed

    /// Without it the kernel may give the port to whoever asks for any. If it cannot be kept, it is still closed.
    private func keep() {
        guard let address = self.address, !self.isShutDown else { return }
        let family = address.protocol == .inet6 ? AF_INET6 : AF_INET
        #if canImport(Glibc)
        let keeper = socket(family, CInt(SOCK_STREAM.rawValue), 0)
        #else
        let keeper = socket(family, SOCK_STREAM, 0)
        #endif
        guard keeper >= 0 else { return }
        // Connections that were accepted here may still be open: the address is used again, but by nobody else.
        self.setReuse(true, of: keeper)
        guard address.withSockAddr({ bind(keeper, $0, socklen_t($1)) }) == 0 else {
            close(keeper)
            return
        }
        self.setReuse(false, of: keeper)
        self.keeper = keeper
    }

    private func setReuse(_ isOn: Bool, of socket: CInt) {
        var value: CInt = isOn ? 1 : 0
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &value, socklen_t(MemoryLayout<CInt>.size))
    }

    private func releaseKeeper() {
        if let keeper = self.keeper { close(keeper) }
        self.keeper = nil
    }

    private var bootstrap: ServerBootstrap {
        let core = NIOLoopBound(self.core, eventLoop: self.core.loop)
        let configuration = self.core.configuration
        return ServerBootstrap(group: self.core.loop)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.socketOption(.so_rcvbuf), value: .init(configuration.receiveBufferSize))
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.writeBufferWaterMark, value: configuration.writeWaterMark)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = RelayHandler(relay: Relay(core: core.value), side: .client)
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }
    }
}
