import HoldfastProtocol
import NIOCore

/// A counted event of the client, as it goes over the wire, and as it may have to be repeated.
struct ClientCommand {
    enum Kind: String {
        case auth, subscribe, unsubscribe, message
    }

    /// Tells commands of one machine apart and says in which order they were made.
    let serial: UInt64
    let kind: Kind
    /// `nil` where no reply is awaited.
    let id: String?
    let subscription: String
    /// The event as JSON text.
    let text: ByteBuffer
    /// Of an `unsubscribe`: the subscription that it ends, since the app may subscribe to the same name again meanwhile.
    var topicID: String?

    var bytes: Int { self.text.readableBytes }
}

/// One subscription of the app.
struct ClientTopic {
    /// That of the command, also when the machine repeats it.
    let id: String
    let name: String
    let fields: [JSONObject.Member]
    /// Where it stands among the app's subscriptions.
    let order: UInt64
    /// Of the last message that went to the app.
    var position: Position?
    /// Sent with the `subscribe` that is under way.
    var since: Position?
    /// The server has confirmed it in this session.
    var isActive = false
    /// It was confirmed in an earlier session.
    var wasActive = false
}
