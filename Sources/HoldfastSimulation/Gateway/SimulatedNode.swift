import HoldfastBroker
import HoldfastCore
import HoldfastProtocol
import HoldfastServer
import Logging
import NIOCore
import NIOHTTP1

/// A machine with a gateway on it: the real one, with loops in virtual time and connections that are ``Pipe``s.
final class SimulatedNode {
    let index: Int
    private let agenda: Agenda
    private let owner: LoopOwner
    private let makeGateway: (SimulatedNode, SimulatedLoops) throws -> Gateway
    private(set) var gateway: Gateway?
    private(set) var ports: [GatewayPort] = []
    private(set) var loops: [SimulatedLoop] = []
    /// Whether the machine answers at all.
    private(set) var isHostUp = true
    /// New clients are sent elsewhere.
    private(set) var isDraining = false
    private var connections: [Int: Connection] = [:]
    /// Told when a node has gone, before it comes back.
    var onDown: (SimulatedNode) -> Void = { _ in }
    /// Called when something has run on a loop.
    var onStep: (GatewayPort) -> Void = { _ in }

    static let loopCount = 2

    private struct Connection {
        let pipe: Pipe
        let loop: SimulatedLoop
        let port: GatewayPort
        var state: State

        enum State {
            case fresh
            case webSocket(GatewayPort.WebSocketPeer)
            case request(GatewayPort.RequestPeer)
            /// Something on the way has swallowed what was asked.
            case swallowed
        }
    }

    init(
        index: Int,
        agenda: Agenda,
        owner: LoopOwner,
        makeGateway: @escaping (SimulatedNode, SimulatedLoops) throws -> Gateway
    ) {
        self.index = index
        self.agenda = agenda
        self.owner = owner
        self.makeGateway = makeGateway
    }

    var isUp: Bool { self.gateway != nil }

    // MARK: Life

    func start() throws {
        self.isHostUp = true
        self.isDraining = false
        guard self.gateway == nil else { return }
        self.loops = (0..<Self.loopCount).map { _ in SimulatedLoop(self.agenda, owner: self.owner) }
        let gateway = try self.makeGateway(self, SimulatedLoops(self.loops))
        self.gateway = gateway
        self.ports = self.loops.compactMap { GatewayPort(gateway, loop: $0) }
        for (loop, port) in zip(self.loops, self.ports) {
            loop.onStep = { [unowned self] in self.onStep(port) }
        }
    }

    /// - Parameter isSilent: the machine is gone, so nobody is told.
    func crash(isSilent: Bool) {
        guard self.gateway != nil else { return }
        for (loop, port) in zip(self.loops, self.ports) {
            loop.run { port.vanish() }
            loop.die()
        }
        self.gateway = nil
        self.ports = []
        self.isHostUp = !isSilent
        let connections = self.connections
        self.connections = [:]
        for id in connections.keys.sorted() {
            guard let pipe = connections[id]?.pipe else { continue }
            if isSilent { pipe.loseServer() } else { pipe.closeServer(.reset) }
        }
        self.onDown(self)
    }

    func drain(window: Double) {
        guard self.gateway != nil else { return }
        self.isDraining = true
        for (loop, port) in zip(self.loops, self.ports) {
            loop.run {
                port.drain(.begin)
                port.drain(.sendAway(window: window))
            }
        }
    }

    func closeAfterDrain() {
        for (loop, port) in zip(self.loops, self.ports) { loop.run { port.drain(.close) } }
    }

    // MARK: Connections

    func accept(_ pipe: Pipe) {
        pipe.isHostUp = { [weak self] in self?.isHostUp ?? false }
        pipe.server = { [weak self, unowned pipe] parcel in self?.received(parcel, pipe) }
    }

    private func received(_ parcel: Parcel, _ pipe: Pipe) {
        guard self.isUp else {
            pipe.closeServer(.reset)
            return
        }
        let place = pipe.id % self.loops.count
        let connection =
            self.connections[pipe.id]
            ?? Connection(pipe: pipe, loop: self.loops[place], port: self.ports[place], state: .fresh)
        connection.loop.run { self.received(parcel, connection) }
    }

    private func received(_ parcel: Parcel, _ connection: Connection) {
        let pipe = connection.pipe
        switch (parcel, connection.state) {
        case (.request(let head, let body), .fresh):
            if head.headers.contains(name: "upgrade") {
                self.upgrade(connection)
            } else {
                self.serve(head, body, connection)
            }
        case (.bytes(let bytes), .webSocket(let peer)): peer.send(bytes)
        case (.finish, .webSocket(let peer)), (.reset, .webSocket(let peer)):
            self.connections[pipe.id] = nil
            pipe.closeServer()
            peer.lost("connection lost without a Close frame")
        case (.finish, .request(let peer)), (.reset, .request(let peer)):
            self.connections[pipe.id] = nil
            pipe.closeServer()
            peer.lost("connection lost")
        case (.finish, _), (.reset, _):
            self.connections[pipe.id] = nil
            pipe.closeServer()
        default: break
        }
    }

    private func upgrade(_ connection: Connection) {
        let pipe = connection.pipe
        let fate = pipe.path.webSockets.last
        var connection = connection
        switch fate {
        case .refused: return self.refuse(connection, 400)
        case .hangs:
            connection.state = .swallowed
            self.connections[pipe.id] = connection
            return
        case .silent, .deaf, nil: break
        }
        let wire = SimulatedWire(pipe, connection.loop, self.agenda)
        guard let peer = connection.port.acceptWebSocket(on: wire) else { return self.refuse(connection, 503) }
        wire.onClose = { [weak self, weak pipe] in
            guard let self, let pipe else { return }
            self.connections[pipe.id] = nil
            peer.lost("connection closed")
        }
        connection.state = .webSocket(peer)
        self.connections[pipe.id] = connection
        pipe.isWebSocket = true
        pipe.serverWritable = { [loop = connection.loop] isWritable in
            loop.run { peer.writabilityChanged(isWritable) }
        }
        pipe.send(.toClient, .answer(101, [:], ByteBuffer()))
        // The answer still passes.
        guard fate != nil else { return }
        self.agenda.plan(in: 5 * (pipe.path.latency + pipe.path.jitter)) {
            pipe.die(.toClient)
            if fate == .silent { pipe.die(.toServer) }
        }
    }

    private func refuse(_ connection: Connection, _ status: Int) {
        connection.pipe.send(.toClient, .answer(status, [:], ByteBuffer()))
        self.connections[connection.pipe.id] = nil
        connection.pipe.closeServer()
    }

    private func serve(_ head: HTTPRequestHead, _ body: ByteBuffer, _ connection: Connection) {
        let pipe = connection.pipe
        // Answered at once, perhaps, or kept.
        let front = SimulatedFront(pipe) { [weak self, weak pipe] in
            if let pipe { self?.connections[pipe.id] = nil }
        }
        let peer = connection.port.serve(head, body: body, front: front)
        guard !front.isOver else { return }
        var connection = connection
        connection.state = .request(peer)
        self.connections[pipe.id] = connection
        // The exchange does not hold its front.
        pipe.keeper = front
        pipe.serverWritable = { [loop = connection.loop] isWritable in
            loop.run { peer.writabilityChanged(isWritable) }
        }
    }
}

/// The gateway's end of a WebSocket.
private final class SimulatedWire: WebSocketWire {
    private let pipe: Pipe
    private let loop: SimulatedLoop
    private let agenda: Agenda
    var onClose: () -> Void = {}

    init(_ pipe: Pipe, _ loop: SimulatedLoop, _ agenda: Agenda) {
        self.pipe = pipe
        self.loop = loop
        self.agenda = agenda
    }

    func write(_ frames: ByteBuffer) { self.pipe.send(.toClient, .bytes(frames)) }

    func write(_ frames: ByteBuffer, completion: @escaping () -> Void) {
        self.write(frames)
        self.agenda.plan(in: 0) { [loop] in loop.run(completion) }
    }

    func setReading(_ isOn: Bool) { self.pipe.pauseServer(!isOn) }

    func closeOutput() { self.pipe.send(.toClient, .finish) }

    func close() {
        self.pipe.closeServer()
        let onClose = self.onClose
        self.onClose = {}
        self.agenda.plan(in: 0) { [loop] in loop.run(onClose) }
    }
}

/// The gateway's end of a request.
private final class SimulatedFront: ExchangeFront {
    private weak var pipe: Pipe?
    private let onEnd: () -> Void
    private(set) var isOver = false

    init(_ pipe: Pipe, onEnd: @escaping () -> Void) {
        self.pipe = pipe
        self.onEnd = onEnd
    }

    func answer(_ head: HTTPResponseHead, _ body: [ByteBuffer], isKeepAlive: Bool) {
        var bytes = ByteBuffer()
        for piece in body { bytes.writeImmutableBuffer(piece) }
        self.finish(.answer(Int(head.status.code), head.headers, bytes))
    }

    func beginStream(_ head: HTTPResponseHead, _ first: ByteBuffer) { self.pipe?.send(.toClient, .stream(first)) }

    func writeStream(_ bytes: ByteBuffer) { self.pipe?.send(.toClient, .bytes(bytes)) }

    func endStream(_ last: ByteBuffer?, isKeepAlive: Bool) { self.finish(.end(last)) }

    private func finish(_ parcel: Parcel) {
        guard !self.isOver else { return }
        self.isOver = true
        self.onEnd()
        self.pipe?.send(.toClient, parcel)
        self.pipe?.server = nil
        self.pipe?.serverWritable = nil
        self.pipe?.keeper = nil
    }
}
