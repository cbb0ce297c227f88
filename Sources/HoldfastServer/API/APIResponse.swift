import HTTPTypes
import HoldfastProtocol
import Hummingbird
import NIOCore

/// An error answer of the server API: `{"status":"error","error":"...","code":"..."}` with a fitting HTTP status.
struct APIError: Error, HTTPResponseError {
    let status: HTTPResponse.Status
    let text: String
    let code: String
    var exceeded: ProtocolError.Exceeded?
    /// Methods that the path has, where the request's is none of them.
    var allow: String?

    init(_ status: HTTPResponse.Status, _ text: String, code: String, exceeded: ProtocolError.Exceeded? = nil) {
        self.status = status
        self.text = text
        self.code = code
        self.exceeded = exceeded
    }

    var body: ByteBuffer {
        JSONWriter.object { self.write(&$0) }
    }

    func write(_ json: inout JSONWriter) {
        json.member("status", "error")
        json.member("error", self.text)
        json.member("code", self.code)
        if let exceeded = self.exceeded {
            json.member("limit", exceeded.limit)
            json.member("actual", exceeded.actual)
        }
    }

    func response(from request: Request, context: some RequestContext) -> Response { self.answer }

    var answer: Response {
        var response = Response.json(self.body, status: self.status)
        if self.status == .unauthorized { response.headers[.wwwAuthenticate] = "Bearer" }
        if self.status == .serviceUnavailable { response.headers[.retryAfter] = "1" }
        // The rest of a body that nobody wants to read must not be waited for.
        if self.status == .contentTooLarge { response.headers[.connection] = "close" }
        if let allow = self.allow { response.headers[.allow] = allow }
        return response
    }

    static let unknownSession = APIError(.notFound, "Unknown session.", code: "unknown_session")
    static func badRequest(_ text: String) -> APIError { APIError(.badRequest, text, code: "bad_request") }
}

extension APIError {
    init(_ error: PublishError) {
        switch error {
        case .refused(let error):
            let status: HTTPResponse.Status = error.code == "unknown_service" ? .notFound : .badRequest
            self.init(status, error.text, code: error.code, exceeded: error.exceeded)
        case .tooLarge(let limit, let actual):
            self.init(
                .contentTooLarge, "data has \(actual) bytes, the limit is \(limit) (limits.publication_bytes).",
                code: "limit_exceeded", exceeded: .init(limit: limit, actual: actual)
            )
        case .busy(let why):
            self.init(.serviceUnavailable, "Not accepted now: \(why). The same call may succeed later.", code: "busy")
        }
    }
}

extension Response {
    static func json(_ body: ByteBuffer, status: HTTPResponse.Status = .ok) -> Response {
        Response(
            status: status,
            headers: [.contentType: "application/json", .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: body)
        )
    }

    static func json(_ write: (inout JSONWriter) -> Void) -> Response { .json(JSONWriter.object(write)) }

    static func text(_ text: String, status: HTTPResponse.Status = .ok) -> Response {
        Response(
            status: status,
            headers: [.contentType: "text/plain; charset=utf-8", .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: text))
        )
    }
}
