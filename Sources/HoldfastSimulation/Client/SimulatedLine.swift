import HoldfastCore
import HoldfastProtocol
import NIOCore

/// One line of a client: what the client's machine opens, sends to and lets go.
protocol SimulatedLine: AnyObject {
    var id: Int { get }
    var transport: ClientTransport { get }
    /// When it was opened, in virtual time.
    var openedAt: Int64 { get }
    func begin()
    func send(_ text: ByteBuffer, number: UInt64?)
    func flush()
    func listen(_ transport: ClientTransport, received: UInt64, wait: Span?)
    func letGo(code: CloseCode?)
}

/// What a line tells its client.
enum LineNews {
    case opened
    case received(ByteBuffer)
    case heard
    case cut
    case closed(CloseCode, reason: String, retryAfter: RetryAfter?)
}

/// What a line needs of the world.
struct LineSurroundings {
    let agenda: Agenda
    let dice: Dice
    /// A connection to some node: to the one given, if that is there.
    let connect: (_ node: Int?) -> Pipe
    /// - Parameter line: whose news it is.
    let tell: (_ line: Int, LineNews) -> Void
}
