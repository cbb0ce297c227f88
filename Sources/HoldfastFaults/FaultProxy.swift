import NIOCore
import NIOPosix

/// A TCP proxy that can do to a connection what bad networks and bad proxies do.
///
///     let proxy = try await FaultProxy.start(.init(serverHost: "127.0.0.1", serverPort: 8080))
///     // connect to 127.0.0.1:proxy.port ...
///     await proxy.cut()
///     // ... silence: no byte, no FIN, no RST, in either direction ...
///     await proxy.restore()
///
///     var faults = Faults()
///     faults.upgrades = .answer(status: 502)
///     faults.latencyMs = 300
///     try await proxy.apply(faults)
///
/// While the line is whole it is a plain relay: FIN and RST are passed on as what they are, a slow reader slows the
/// writer on the other side, and memory is bounded. The bytes are never changed, but for ``Faults/corrupt``.
///
/// What it cannot do, because it ends one TCP connection and begins another: leave bytes unacknowledged (the sender's
/// kernel believes that they have arrived, so it never times out by itself), or leave a SYN unanswered (a new
/// connection opens at once, and then nothing comes). Nor does it look into TLS or HTTP/2: to it they are bytes.
public final class FaultProxy: Sendable {
    /// The port that it listens on.
    public let port: Int

    let core: NIOLoopBound<ProxyCore>
    private let listener: NIOLoopBound<ListeningPort>

    private init(core: NIOLoopBound<ProxyCore>, listener: NIOLoopBound<ListeningPort>) {
        self.core = core
        self.listener = listener
        self.port = listener.value.address?.port ?? 0
    }

    /// Starts to listen.
    ///
    /// - Parameter loop: runs all of it: the sockets, the faults, the counts.
    /// - Throws: the error of the system if the address cannot be listened on (`IOError` with `EADDRINUSE`: the port is
    ///   taken).
    public static func start(
        _ configuration: Configuration,
        on loop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()
    ) async throws -> FaultProxy {
        try await loop.flatSubmit {
            let core = NIOLoopBound(ProxyCore(configuration: configuration, loop: loop), eventLoop: loop)
            let listener = NIOLoopBound(ListeningPort(core: core.value), eventLoop: loop)
            return listener.value.open().map { FaultProxy(core: core, listener: listener) }
        }.get()
    }

    // MARK: Standing faults

    /// Replaces all faults that stand, the cut too. Connections of which nothing was lost go on.
    ///
    /// - Throws: ``FaultsError`` if a value is out of its range; the system's error if the port cannot be opened again
    ///   after ``Faults/refuse`` because somebody has taken it.
    public func apply(_ faults: Faults) async throws {
        try await self.change { $0 = faults }
    }

    /// As ``apply(_:)``, beginning from what stands. Nobody else changes it meanwhile.
    ///
    /// - Returns: what stands now.
    /// - Throws: as ``apply(_:)``, and what `change` throws; then nothing has changed.
    @discardableResult
    public func change(_ change: @escaping @Sendable (inout Faults) throws -> Void) async throws -> Faults {
        let (core, listener) = (self.core, self.listener)
        return try await core.eventLoop.flatSubmit {
            do {
                var faults = core.value.faults
                try change(&faults)
                try faults.validate()
                core.value.apply(faults)
                let result = faults
                return (faults.refuse ? listener.value.refuse() : listener.value.open()).map { result }
            } catch {
                return core.eventLoop.makeFailedFuture(error)
            }
        }.get()
    }

    /// What stands.
    public var faults: Faults {
        get async { await self.onLoop { $0.faults } }
    }

    /// Cuts the line. What the proxy has not read when it returns does not pass; what it has handed to a slow reader's
    /// socket before is beyond the cut and still arrives.
    ///
    /// A connection made during the cut is accepted and waits, unread, for its SYN to get through:
    /// ``Configuration/synRepeats``. If its client gives up before, the server never hears of it.
    /// A cut of a line that is cut replaces the cut before: directions that it does not name are whole again.
    ///
    /// - Parameters:
    ///   - directions: where packets do not arrive any more.
    ///   - packets: whether what is sent meanwhile is lost or late.
    ///   - reach: which connections are struck.
    public func cut(
        _ directions: Directions = .both,
        packets: CutPackets = .lost,
        reach: Reach = .everything
    ) async {
        await self.onLoop {
            $0.cut(Cut(directions: directions, packets: packets), reach: reach)
            $0.tell(nil, "cut \(directions.name), packets \(packets.rawValue)")
        }
    }

    /// Makes the line whole; the other faults stay. What becomes of the connections that were cut says ``CutPackets``.
    public func restore() async {
        await self.onLoop {
            $0.cut(.none, reach: .everything)
            $0.tell(nil, "restored")
        }
    }

    // MARK: Deeds

    /// Which connections a deed strikes.
    public enum Which: String, Sendable, Hashable, CaseIterable {
        case all
        /// The one that was accepted last.
        case newest
    }

    /// RST to both sides.
    ///
    /// - Returns: how many connections there were.
    @discardableResult
    public func reset(_ which: Which = .all) async -> Int {
        await self.onLoop { $0.reset(which) }
    }

    /// A FIN in these directions; what is sent there later is lost, the other direction goes on.
    ///
    /// - Returns: how many connections there were.
    @discardableResult
    public func halfClose(_ directions: Directions, _ which: Which = .all) async -> Int {
        await self.onLoop { $0.halfClose(directions, which) }
    }

    /// Closes all connections to both sides, with a FIN unless something has come that was not read.
    ///
    /// - Returns: how many connections there were.
    @discardableResult
    public func closeAll() async -> Int {
        await self.onLoop { $0.closeAll() }
    }

    /// All figures of one instant.
    public var statistics: Statistics {
        get async { await self.onLoop { $0.currentStatistics() } }
    }

    /// Closes the port and all connections, those of a cut line too: this they notice.
    public func shutdown() async {
        let listener = self.listener
        // A second call finds it closed.
        try? await listener.eventLoop.flatSubmit { listener.value.shutdown() }.get()
        await self.onLoop { $0.shutdown() }
    }

    private func onLoop<Result: Sendable>(_ body: @escaping @Sendable (ProxyCore) -> Result) async -> Result {
        let core = self.core
        do {
            return try await core.eventLoop.submit { body(core.value) }.get()
        } catch {
            // `body` does not throw, and a loop that is shut down before its users is a mistake of the program.
            preconditionFailure("the event loop of the fault proxy has been shut down: \(error)")
        }
    }
}
