import DequeModule
import HoldfastServer
import NIOCore
import NIOHTTP1

/// What goes over a connection.
enum Parcel {
    case bytes(ByteBuffer)
    case request(HTTPRequestHead, ByteBuffer)
    /// A whole answer.
    case answer(Int, HTTPHeaders, ByteBuffer)
    /// An answer without an end begins.
    case stream(ByteBuffer)
    case end(ByteBuffer?)
    case finish
    case reset

    var size: Int {
        switch self {
        case .bytes(let bytes), .request(_, let bytes), .answer(_, _, let bytes), .stream(let bytes):
            bytes.readableBytes + 40
        case .end(let bytes): (bytes?.readableBytes ?? 0) + 40
        case .finish, .reset: 40
        }
    }

    /// What a buffering proxy holds back.
    var isPiece: Bool {
        switch self {
        case .stream, .bytes: true
        case .request, .answer, .end, .finish, .reset: false
        }
    }
}

/// One TCP connection of a client, which each end sees for itself: nothing is lost or reordered within it, but it may be late,
/// stand still, or be dead without either end knowing.
final class Pipe {
    private struct Lane {
        var parcels = Deque<(parcel: Parcel, due: Int64)>()
        var bytes = 0
        var lastDue: Int64 = 0
        var isPlanned = false
        /// Nothing gets through any more, and nobody says so.
        var isDead = false
        /// What the sender's TCP waits before it repeats, in seconds, while the way is cut.
        var repeatWait = Path.firstRepeat
        /// The receiver does not read.
        var isPaused = false
    }

    let id: Int
    let node: Int
    let path: Path
    private let agenda: Agenda
    private let dice: Dice
    private var toServer = Lane()
    private var toClient = Lane()
    /// `nil` once that end has let go.
    var client: ((Parcel) -> Void)?
    var server: ((Parcel) -> Void)?
    /// The gateway is told that it may not, or may again, write.
    var serverWritable: ((Bool) -> Void)?
    /// Whether the machine that the server runs on answers.
    var isHostUp: () -> Bool = { true }
    /// Some proxy on the way keeps this answer until its end.
    private var isBuffered = false
    /// A tunnel, whose bytes no proxy keeps.
    var isWebSocket = false
    /// Something that lives as long as the server's end.
    var keeper: AnyObject?
    private var isFull = false
    private(set) var lastWord: Int64
    var onEnd: () -> Void = {}

    /// Bytes under way above which the gateway is told to wait, and below which it may go on.
    static let fullBytes = 256 * 1024
    static let roomBytes = 128 * 1024

    init(id: Int, node: Int, path: Path, agenda: Agenda, dice: Dice) {
        self.id = id
        self.node = node
        self.path = path
        self.agenda = agenda
        self.dice = dice
        self.lastWord = agenda.now
    }

    var isOver: Bool { self.client == nil && self.server == nil }

    // MARK: Sending

    func send(_ way: Way, _ parcel: Parcel) {
        self.lastWord = self.agenda.now
        self.change(way) { lane in
            guard !lane.isDead else { return }
            var delay = self.path.delay(self.dice)
            if way == .toClient, let bandwidth = self.path.bandwidths.min() {
                delay += Double(lane.bytes + parcel.size) / bandwidth
            }
            lane.lastDue = max(lane.lastDue, self.agenda.now + Int64(delay * 1_000_000))
            lane.parcels.append((parcel, lane.lastDue))
            lane.bytes += parcel.size
        }
        self.plan(way)
        self.tellWritability()
    }

    private func change(_ way: Way, _ body: (inout Lane) -> Void) {
        if way == .toServer { body(&self.toServer) } else { body(&self.toClient) }
    }

    private func lane(_ way: Way) -> Lane { way == .toServer ? self.toServer : self.toClient }

    private func plan(_ way: Way) {
        let lane = self.lane(way)
        guard !lane.isPlanned, !lane.isPaused, !lane.isDead, let first = lane.parcels.first else { return }
        self.change(way) { $0.isPlanned = true }
        self.agenda.plan(at: first.due) { self.arrive(way) }
    }

    private func arrive(_ way: Way) {
        self.change(way) { $0.isPlanned = false }
        let lane = self.lane(way)
        guard !lane.isPaused, !lane.isDead, let first = lane.parcels.first else { return }
        guard first.due <= self.agenda.now else { return self.plan(way) }
        if self.path.isCut(way) || way == .toServer && !self.isHostUp() { return self.repeatLater(way) }
        self.change(way) { lane in
            lane.parcels.removeFirst()
            lane.bytes -= first.parcel.size
            lane.repeatWait = Path.firstRepeat
        }
        self.tellWritability()
        self.hand(way, first.parcel)
        self.plan(way)
    }

    /// TCP tries again after a while that doubles each time.
    private func repeatLater(_ way: Way) {
        self.change(way) { lane in
            let due = self.agenda.now + Int64(lane.repeatWait * 1_000_000)
            lane.repeatWait = min(lane.repeatWait * 2, Path.lastRepeat)
            if !lane.parcels.isEmpty { lane.parcels[0].due = due }
        }
        self.plan(way)
    }

    private func hand(_ way: Way, _ parcel: Parcel) {
        if way == .toClient, !self.isWebSocket, parcel.isPiece, self.isBuffered || self.path.isBuffered > 0 {
            // Nobody waits for the end of an answer that has none, so what is in it need not be kept here.
            self.isBuffered = true
            return
        }
        let receiver = way == .toServer ? self.server : self.client
        if let receiver { return receiver(parcel) }
        // Nobody is there any more: the kernel says so.
        switch parcel {
        case .finish, .reset: break
        default: self.send(way == .toServer ? .toClient : .toServer, .reset)
        }
    }

    private func tellWritability() {
        let bytes = self.toClient.bytes
        if !self.isFull, bytes > Self.fullBytes {
            self.isFull = true
            self.serverWritable?(false)
        } else if self.isFull, bytes < Self.roomBytes {
            self.isFull = false
            // Not at once: who writes is not to be called back from within.
            self.agenda.plan(at: self.agenda.now) { if !self.isFull { self.serverWritable?(true) } }
        }
    }

    func pauseServer(_ isPaused: Bool) {
        self.toServer.isPaused = isPaused
        self.plan(.toServer)
    }

    // MARK: Ends

    /// The client's end is closed.
    func closeClient() {
        guard self.client != nil else { return }
        self.client = nil
        self.send(.toServer, .finish)
        self.over()
    }

    func closeServer(_ parcel: Parcel = .finish) {
        guard self.server != nil else { return }
        self.server = nil
        self.serverWritable = nil
        self.send(.toClient, parcel)
        self.over()
    }

    /// The server is gone and says nothing.
    func loseServer() {
        self.server = nil
        self.serverWritable = nil
        self.toClient.isDead = true
        self.over()
    }

    private func over() {
        if self.isOver { self.onEnd() }
    }

    /// Something on the way has forgotten the connection.
    func die(_ way: Way) {
        self.change(way) { lane in
            lane.isDead = true
            lane.parcels = []
        }
    }

    /// Something on the way closes the connection, and says so to both.
    func cut(_ parcel: Parcel) {
        self.agenda.plan(in: self.path.latency) {
            let (client, server) = (self.client, self.server)
            self.client = nil
            self.server = nil
            self.serverWritable = nil
            self.over()
            client?(parcel)
            server?(parcel)
        }
    }
}
