/**
 * The methods that a route can be for.
 *
 * @module
 */

/** The methods of the original (`http_parser`'s 33), and QUERY. */
export const METHODS: ReadonlySet<string> = new Set(
  ("DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH " +
    "SEARCH UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY " +
    "SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK QUERY").split(" "),
);

/** Every method except CONNECT and TRACE, which a route must name (original: `HTTP_ANY`). */
export const ANY = "ANY";
